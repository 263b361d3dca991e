// A draft head that reads the target's hidden states: EAGLE-3 (arXiv 2503.01840) and 3.1, one layer.
#pragma once

#include "decoder.h"

namespace outrider {

struct HeadParts {
    Shape shape;  // the vocabulary is what it can draft
    Layer layer;  // attention_norm is that of the state; queries, keys and values are made from 2 x hidden numbers
    std::vector<float> token_norm, norm;
    std::vector<std::vector<float>> read_norms;      // of what it reads, in equal pieces; empty without
    std::shared_ptr<const Matrix> embedding;         // [the target's vocabulary, hidden]
    std::shared_ptr<const Matrix> reading, head;     // from the states that it reads to one; to logits
    bool norm_before_residual = false, norm_output = false;
};

class Head : public Decoder {
   public:
    // Throws std::invalid_argument where a part does not fit the others.
    Head(HeadParts parts, const std::string& set, size_t threads);

    // How many numbers of the target it reads for each token.
    size_t read_size() const { return parts_.reading->inputs; }
    // States [tokens, hidden] of the target's [tokens, read size].
    std::vector<float> read(const float* hidden, size_t tokens) const;
    // What the head makes of states and of the tokens after them: [wanted, hidden].
    std::vector<float> forward(Cache& cache, const std::vector<Row>& rows, const float* states, size_t count) const;
    // What the next step goes on from.
    std::vector<float> passed_on(const float* made, size_t tokens) const;
    // Logits [tokens, vocabulary] of what it made.
    std::vector<float> logits(const float* made, size_t tokens) const;

   private:
    HeadParts parts_;
};

}  // namespace outrider
