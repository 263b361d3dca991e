// A Llama-like decoder: what it is made of, and its forward pass.
#pragma once

#include <memory>
#include <string>

#include "cache.h"
#include "kernels.h"

namespace outrider {

struct Linear {
    std::shared_ptr<const Matrix> matrix;
    std::vector<float> bias;  // empty without
};

struct Layer {
    std::vector<float> attention_norm, mlp_norm, query_norm, key_norm;  // the last two empty without
    Linear query, key, value, output, gate, up, down;
    size_t window = 0;    // how many tokens a token sees, itself included; 0 is all
    bool rotates = true;  // whether positions turn queries and keys
};

struct Shape {
    size_t hidden = 0, heads = 0, key_heads = 0, head_size = 0, inner = 0, vocabulary = 0;
    float epsilon = 0;
    float rotary_scale = 1;          // of cosines and sines
    std::vector<float> frequencies;  // of the pairs of dimensions that are turned
};

// One pass. The tokens of a row are its tentative ones from `first_node` on.
struct Row {
    size_t row = 0;
    size_t kept = 0;                // committed tokens
    std::vector<int32_t> parents;   // of all tentative tokens; -1 is the last committed one
    std::vector<int32_t> tokens;    // the newest of them
    size_t wanted = 0;              // of the last tokens
};

struct Result {
    // [wanted, vocabulary], and perhaps more behind it. Replaced where a pass needs more: whoever holds the old memory
    // may go on reading it.
    std::shared_ptr<std::vector<float>> logits;
    std::vector<std::vector<float>> hidden;  // [tokens, hidden] for each layer asked
    size_t wanted = 0, tokens = 0;
};

// The most probable tokens of each scored token, and their softmax over the whole vocabulary; NaN where a logit is none.
struct Top {
    std::vector<int64_t> tokens;       // [wanted, k], falling; the lower id first of equals
    std::vector<float> probabilities;  // [wanted, k]
};

class Model {
   public:
    // Throws std::invalid_argument where a part does not fit the others.
    Model(Shape shape, std::vector<Layer> layers, std::vector<float> norm, std::shared_ptr<const Matrix> embedding,
          std::shared_ptr<const Matrix> head, const std::string& set, size_t threads);

    std::unique_ptr<Cache> new_cache(size_t rows, size_t capacity, bool half) const {
        return std::make_unique<Cache>(rows, capacity, layers_.size(), shape_.key_heads, shape_.head_size, half);
    }
    // The next pass with the same result overwrites it.
    void forward(Cache& cache, const std::vector<Row>& rows, const std::vector<size_t>& hidden, Result& result) const;
    // Of the logits of a pass.
    Top top(const Result& result, size_t k) const;

    const char* set() const { return kernels_->name; }
    size_t threads() const { return threads_; }
    size_t vocabulary() const { return shape_.vocabulary; }
    size_t hidden_size() const { return shape_.hidden; }
    size_t layers() const { return layers_.size(); }
    const Kernels& kernels() const { return *kernels_; }

   private:
    struct Step;  // what one pass holds

    void check() const;
    void check_rows(const Cache& cache, const std::vector<Row>& rows) const;
    void attend(Step& step, size_t layer) const;
    void project(Step& step, size_t layer) const;
    void transform(Step& step, size_t layer) const;
    void add(Step& step, const Linear& linear, const Inputs& in) const;
    void prepare(const float* x, size_t size, const float* norm, Inputs& in,
                 const std::vector<const Linear*>& consumers, const std::vector<size_t>* picked) const;

    Shape shape_;
    std::vector<Layer> layers_;
    std::vector<float> norm_;
    std::shared_ptr<const Matrix> embedding_, head_;
    const Kernels* kernels_;
    size_t threads_;
};

}  // namespace outrider
