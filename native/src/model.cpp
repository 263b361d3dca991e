#include "model.h"

#include <algorithm>

#include "pack.h"

namespace outrider {

Model::Model(Shape shape, std::vector<Layer> layers, std::vector<float> norm, std::shared_ptr<const Matrix> embedding,
             std::shared_ptr<const Matrix> head, const std::string& set, size_t threads)
    : Decoder(shape, std::move(layers), shape.hidden, set, threads), norm_(std::move(norm)),
      embedding_(std::move(embedding)), head_(std::move(head)) {
    require(norm_.size() == shape_.hidden, "the last norm has another size");
    check_linear({embedding_, {}}, "the embedding", shape_.vocabulary, shape_.hidden);
    check_linear({head_, {}}, "the head", shape_.vocabulary, shape_.hidden);
}

void Model::forward(Cache& cache, const std::vector<Row>& rows, const std::vector<size_t>& hidden,
                    Result& result) const {
    for (size_t layer : hidden) require(layer <= layers_.size(), "layer " + std::to_string(layer));
    Step step(cache);
    lay_out(step, rows, shape_.vocabulary);
    const size_t tokens = step.tokens, width = shape_.hidden, wanted = step.wanted.size();
    for (size_t token = 0; token < tokens; token++)
        unpack_row(*embedding_, static_cast<size_t>(step.ids[token]), step.x.data() + token * width);
    if (shape_.embedding_scale != 1)
        for (float& x : step.x) x *= shape_.embedding_scale;
    result.hidden.resize(hidden.size());
    const bool told_last = std::count(hidden.begin(), hidden.end(), layers_.size()) > 0;  // of all tokens
    auto tell = [&](size_t layer) {
        for (size_t i = 0; i < hidden.size(); i++)
            if (hidden[i] == layer) result.hidden[i] = step.x;
    };
    for (size_t number = 0; number < layers_.size(); number++) {
        tell(number);
        const float* norm = norm_or_none(layers_[number].attention_norm);
        if (number + 1 < layers_.size() || told_last)
            run(step, number, step.x.data(), width, norm);
        else
            run_last(step, number, step.x.data(), width, norm);
    }
    for (size_t i = 0; i < hidden.size(); i++) {
        if (hidden[i] != layers_.size()) continue;
        result.hidden[i].resize(tokens * width);
        for (size_t token = 0; token < tokens; token++)
            kernels_->norm(step.x.data() + token * width, norm_.data(), width, shape_.epsilon,
                           result.hidden[i].data() + token * width);
    }
    result.tokens = tokens;
    result.wanted = wanted;
    if (!result.logits || result.logits->size() < wanted * shape_.vocabulary)
        result.logits = std::make_shared<std::vector<float>>(wanted * shape_.vocabulary);
    if (!wanted) return;
    const Linear head{head_, {}};
    step.inner.tokens = wanted;
    prepare(step.x.data(), width, norm_.data(), step.inner, {&head}, &step.wanted);
    score(*head_, step.inner, result.logits->data());
}

}  // namespace outrider
