// A Llama-like decoder and its forward pass.
#pragma once

#include "decoder.h"

namespace outrider {

struct Result {
    // [wanted, vocabulary], and perhaps more behind it. Replaced where a pass needs more: whoever holds the old memory
    // may go on reading it.
    std::shared_ptr<std::vector<float>> logits;
    std::vector<std::vector<float>> hidden;  // [tokens, hidden] for each layer asked
    size_t wanted = 0, tokens = 0;
};

class Model : public Decoder {
   public:
    // Throws std::invalid_argument where a part does not fit the others.
    Model(Shape shape, std::vector<Layer> layers, std::vector<float> norm, std::shared_ptr<const Matrix> embedding,
          std::shared_ptr<const Matrix> head, const std::string& set, size_t threads);

    // The next pass with the same result overwrites it.
    void forward(Cache& cache, const std::vector<Row>& rows, const std::vector<size_t>& hidden, Result& result) const;
    // Of the logits of a pass.
    Top top(const Result& result, size_t k) const {
        return top_of(result.logits ? result.logits->data() : nullptr, result.wanted, k);
    }
    std::shared_ptr<const Matrix> embedding() const { return embedding_; }

   private:
    std::vector<float> norm_;
    std::shared_ptr<const Matrix> embedding_, head_;
};

}  // namespace outrider
