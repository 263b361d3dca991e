#include "head.h"

#include <algorithm>

#include "pack.h"

namespace outrider {

Head::Head(HeadParts parts, const std::string& set, size_t threads)
    : Decoder(parts.shape, {parts.layer}, 2 * parts.shape.hidden, set, threads), parts_(std::move(parts)) {
    const size_t hidden = shape_.hidden;
    require(parts_.embedding && parts_.embedding->inputs == hidden, "the embedding is of another size");
    require(parts_.reading && parts_.reading->outputs == hidden, "what is read makes no state");
    check_linear({parts_.head, {}}, "the head", shape_.vocabulary, hidden);
    require(parts_.token_norm.size() == hidden && parts_.norm.size() == hidden &&
                parts_.layer.attention_norm.size() == hidden,
            "a norm's size");
    size_t normed = 0;
    for (const auto& norm : parts_.read_norms) {
        require(norm.size() == parts_.read_norms[0].size(), "norms of unequal pieces");
        normed += norm.size();
    }
    require(parts_.read_norms.empty() || normed == read_size(), "norms of another size than what is read");
}

std::vector<float> Head::read(const float* hidden, size_t tokens) const {
    const size_t size = read_size();
    std::vector<float> normed(hidden, hidden + tokens * size), states(tokens * shape_.hidden);
    for (size_t token = 0; token < tokens; token++) {
        float* piece = normed.data() + token * size;
        for (const auto& norm : parts_.read_norms) {
            kernels_->norm(piece, norm.data(), norm.size(), shape_.epsilon, piece);
            piece += norm.size();
        }
    }
    const Linear reading{parts_.reading, {}};
    Inputs in;
    in.tokens = tokens;
    prepare(normed.data(), size, nullptr, in, {&reading}, nullptr);
    add(states, tokens, reading, in);
    return states;
}

std::vector<float> Head::forward(Cache& cache, const std::vector<Row>& rows, const float* states, size_t count) const {
    Step step(cache);
    lay_out(step, rows, parts_.embedding->outputs);
    require(step.tokens == count, std::to_string(count) + " states of " + std::to_string(step.tokens) + " tokens");
    const size_t width = shape_.hidden;
    const Layer& layer = layers_[0];
    std::vector<float> joined(step.tokens * 2 * width);
    for (size_t token = 0; token < step.tokens; token++) {
        float* embedded = joined.data() + token * 2 * width;
        float* state = embedded + width;
        unpack_row(*parts_.embedding, static_cast<size_t>(step.ids[token]), embedded);
        kernels_->norm(embedded, parts_.token_norm.data(), width, shape_.epsilon, embedded);
        kernels_->norm(states + token * width, layer.attention_norm.data(), width, shape_.epsilon, state);
        std::copy_n(parts_.norm_before_residual ? state : states + token * width, width, step.x.data() + token * width);
    }
    run_last(step, 0, joined.data(), 2 * width, nullptr);
    return std::move(step.x);
}

std::vector<float> Head::passed_on(const float* made, size_t tokens) const {
    const size_t width = shape_.hidden;
    std::vector<float> found(made, made + tokens * width);
    for (size_t token = 0; parts_.norm_output && token < tokens; token++)
        kernels_->norm(made + token * width, parts_.norm.data(), width, shape_.epsilon, found.data() + token * width);
    return found;
}

std::vector<float> Head::logits(const float* made, size_t tokens) const {
    std::vector<float> found(tokens * shape_.vocabulary);
    const Linear head{parts_.head, {}};
    Inputs in;
    in.tokens = tokens;
    prepare(made, shape_.hidden, parts_.norm.data(), in, {&head}, nullptr);
    score(*parts_.head, in, found.data());
    return found;
}

}  // namespace outrider
