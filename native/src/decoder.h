// What the layers of a Llama-like decoder are made of, and the steps that every pass over them takes.
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

struct Experts;  // experts.h
struct Visits;

// Norms are empty where a layer has none.
struct Layer {
    std::vector<float> attention_norm, mlp_norm;            // of what goes in
    std::vector<float> attention_post_norm, mlp_post_norm;  // of what comes out, before it is added to the rest
    std::vector<float> query_norm, key_norm;                // of one head, or of all heads together
    Linear query, key, value, output, gate, up, down;
    std::vector<float> sinks;          // of each query head: a score that adds no value; empty without
    std::shared_ptr<Experts> experts;  // instead of gate, up and down; null without
    size_t window = 0;  // how many tokens a token sees, itself included; 0 is all
    int rotation = 0;   // which of the shape's turns queries and keys; -1 is none
};

// How positions turn queries and keys.
struct Rotation {
    std::vector<float> frequencies;  // of the pairs of dimensions that are turned
    float scale = 1;                 // of cosines and sines
};

struct Shape {
    size_t hidden = 0, heads = 0, key_heads = 0, head_size = 0, inner = 0, vocabulary = 0;
    float epsilon = 0;
    std::vector<Rotation> rotations;
    Activation activation = Activation::silu;
    float embedding_scale = 1, residual_scale = 1, logit_divisor = 1;
    float attention_scale = 0;                // of products of queries and keys; 0 is 1 / sqrt(head_size)
    bool norms_last = false;                 // whether heads are normed after they are turned
    float query_slope = 0;                   // queries times 1 + slope * log(1 + position / step), of whole steps
    size_t query_step = 1;
    float attention_cap = 0, logit_cap = 0;  // x becomes cap * tanh(x / cap); 0 is none
};

// One pass. The tokens of a row are its tentative ones from `first_node` on.
struct Row {
    size_t row = 0;
    size_t kept = 0;                // committed tokens
    std::vector<int32_t> parents;   // of all tentative tokens; -1 is the last committed one
    std::vector<int32_t> tokens;    // the newest of them
    size_t wanted = 0;              // of the last tokens
};

// The most probable tokens of each scored token, and their softmax over the whole vocabulary; NaN where a logit is none.
struct Top {
    std::vector<int64_t> tokens;       // [wanted, k], falling; the lower id first of equals
    std::vector<float> probabilities;  // [wanted, k]
};

class Decoder {
   public:
    std::unique_ptr<Cache> new_cache(size_t rows, size_t capacity, bool half) const {
        return std::make_unique<Cache>(rows, capacity, layers_.size(), shape_.key_heads, shape_.head_size, half);
    }
    // Of logits [rows, vocabulary].
    Top top_of(const float* logits, size_t rows, size_t k) const;

    const char* set() const { return kernels_->name; }
    size_t threads() const { return threads_; }
    size_t vocabulary() const { return shape_.vocabulary; }
    size_t hidden_size() const { return shape_.hidden; }
    size_t layers() const { return layers_.size(); }
    const Kernels& kernels() const { return *kernels_; }

   protected:
    struct Turns {
        std::vector<float> cosines, sines;  // [tokens, pairs]
    };
    // What one pass holds.
    struct Step {
        explicit Step(Cache& of) : cache(of) {}

        Cache& cache;
        size_t tokens = 0;
        std::vector<int32_t> ids;                 // of each token
        std::vector<size_t> wanted;               // the tokens that are scored
        std::vector<size_t> row, slot, position;  // of each token
        std::vector<std::vector<int32_t>> tails;  // tentative ancestors of tokens in trees, themselves included
        std::vector<size_t> straight;             // slots at the beginning of its row that a token sees
        std::vector<Turns> turns;                 // of each of the shape's rotations
        std::vector<float> query_scales;          // of each token, where they depend on positions
        std::vector<float> x, queries, attended;
        std::vector<float> keys;  // where they are normed over all heads, before that
        std::vector<float> made;  // what is normed or scaled before it is added to x
        Inputs in, inner;
        std::vector<std::vector<float>> scratch;  // of each thread
        std::shared_ptr<Visits> visits;           // where a layer has experts
    };

    // Throws std::invalid_argument where a part does not fit the others.
    // `inputs` is how many numbers queries, keys and values are made from.
    Decoder(Shape shape, std::vector<Layer> layers, size_t inputs, const std::string& set, size_t threads);

    // The tokens of a pass, their places and what they see. Tokens are below `known`.
    void lay_out(Step& step, const std::vector<Row>& rows, size_t known) const;
    // A layer, whose queries, keys and values are made from x [tokens, size], normed first if there is a norm.
    void run(Step& step, size_t layer, const float* x, size_t size, const float* norm) const;
    // The last layer, likewise. Of a token that is not wanted nothing but its key and value is ever read: so no more is
    // made of it, and the step goes on with the wanted ones.
    void run_last(Step& step, size_t layer, const float* x, size_t size, const float* norm) const;
    // x [tokens, outputs] += linear(in)
    void add(std::vector<float>& x, size_t tokens, const Linear& linear, const Inputs& in) const;
    // From x [tokens, size], normed first if there is a norm, to the inputs of linears; `picked` chooses tokens.
    void prepare(const float* x, size_t size, const float* norm, Inputs& in,
                 const std::vector<const Linear*>& consumers, const std::vector<size_t>* picked) const;
    // Logits [tokens of in, outputs of head].
    void score(const Matrix& head, const Inputs& in, float* logits) const;

    Shape shape_;
    std::vector<Layer> layers_;
    const Kernels* kernels_;
    size_t threads_;

   private:
    static constexpr size_t CHUNK = 64;  // tokens that one piece of work takes through its tiles
    static constexpr size_t FEW = 8;     // tokens that are not worth sharing for small work

    enum class Projected { all, queries, keys };  // keys and their values
    void project(Step& step, size_t layer, Projected which) const;
    // Queries and keys that are normed over all heads of a token, once all of them are there.
    void norm_whole(Step& step, size_t layer, Projected which) const;
    // Turns a query or key of a head, which `from` holds, and puts it where attention finds it.
    void place(Step& step, size_t layer, bool is_query, size_t token, size_t head, float* from) const;
    // x += linear(in), normed first if there is a norm, and scaled.
    void join(Step& step, const Linear& linear, const Inputs& in, const std::vector<float>& norm) const;
    void join_token(float* x, float* made, const std::vector<float>& norm) const;
    void attend(Step& step, size_t layer) const;
    void transform(Step& step, size_t layer) const;
    // activation(gate(in)) * up(in) of one block of outputs and at most CHUNK tokens, as inputs of `down`.
    void gate_block(const Linear& gate, const Linear& up, const Linear& down, size_t block, const Inputs& in,
                    size_t first, size_t count, Inputs& inner) const;
    // The MLP of a layer with experts (experts.cpp).
    void mix(Step& step, size_t layer) const;
    void route(Step& step, const Layer& layer) const;
    void check_experts(const Experts& experts) const;
    // What comes after projections: attention and MLP.
    void finish(Step& step, size_t layer) const;
    void keep_wanted(Step& step) const;
    void check(size_t inputs) const;
    void check_rows(const Cache& cache, const std::vector<Row>& rows, size_t known) const;
};

// Null where a norm is empty.
inline const float* norm_or_none(const std::vector<float>& norm) { return norm.empty() ? nullptr : norm.data(); }

inline size_t pieces_of(size_t count, size_t size) { return (count + size - 1) / size; }

// Throws std::invalid_argument.
void require(bool holds, const std::string& what);
void check_linear(const Linear& linear, const char* name, size_t outputs, size_t inputs);
// Of outputs from `first` on, to y [tokens, stride].
void add_bias(const Linear& linear, size_t first, size_t outputs, float* y, size_t tokens, size_t stride);

}  // namespace outrider
