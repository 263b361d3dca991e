// A layer with experts. What a token asks of whom depends on the token alone, and so does the order in which the answers
// are added: by the number of the expert. The weights of an expert are read once for all tokens that ask it.
#include "experts.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "pool.h"

namespace outrider {

namespace {

constexpr size_t WIDE = 4;  // tiles of one piece of work

// The experts that a token asks, rising, and their weights: a softmax over all experts, of which the largest are kept.
// The lower expert comes first of equals.
void choose(const float* logits, const Experts& of, size_t* experts, float* weights) {
    const size_t count = of.each.size();
    std::vector<size_t> order(count);
    std::iota(order.begin(), order.end(), size_t(0));
    const bool numbers = std::all_of(logits, logits + count, [](float x) { return std::isfinite(x); });
    if (numbers)
        std::partial_sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(of.used), order.end(),
                          [&](size_t a, size_t b) { return logits[a] > logits[b] || (logits[a] == logits[b] && a < b); });
    const double largest = logits[order[0]];
    double total = 0;
    for (size_t i = 0; i < (of.normalised ? of.used : count); i++) total += std::exp(logits[order[i]] - largest);
    std::sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(of.used));
    for (size_t i = 0; i < of.used; i++) {
        experts[i] = order[i];
        weights[i] = numbers ? static_cast<float>(std::exp(logits[order[i]] - largest) / total)
                             : std::numeric_limits<float>::quiet_NaN();
    }
    if (!of.has_shared()) return;
    experts[of.used] = count;
    weights[of.used] = static_cast<float>(1 / (1 + std::exp(-static_cast<double>(logits[count]))));
}

void sort(Visits& visits, size_t experts, size_t asked) {
    visits.first.assign(experts + 1, 0);
    for (size_t expert : visits.experts) visits.first[expert + 1]++;
    std::partial_sum(visits.first.begin(), visits.first.end(), visits.first.begin());
    std::vector<size_t> next(visits.first);
    visits.places.resize(visits.experts.size());
    visits.tokens.resize(visits.experts.size());
    for (size_t i = 0; i < visits.experts.size(); i++) {
        visits.places[i] = next[visits.experts[i]]++;
        visits.tokens[visits.places[i]] = i / asked;
    }
}

// Calls work(expert, part, first visit, visits) for each of the parts(expert) parts of each expert that is asked: of a
// part all visits, at most `most` at a time, so that its weights stay near.
template <class Parts, class Work>
void share(const Visits& visits, size_t most, size_t threads, const Parts& parts, const Work& work) {
    std::vector<size_t> asked, ends;  // experts, and how many pieces there are up to them
    size_t pieces = 0;
    for (size_t expert = 0; expert + 1 < visits.first.size(); expert++) {
        const size_t count = visits.first[expert + 1] - visits.first[expert];
        if (!count) continue;
        asked.push_back(expert);
        ends.push_back(pieces += parts(expert) * pieces_of(count, most));
    }
    Pool::shared().run(pieces, threads, [&](size_t piece, size_t) {
        const size_t i = static_cast<size_t>(std::upper_bound(ends.begin(), ends.end(), piece) - ends.begin());
        const size_t expert = asked[i], within = piece - (i ? ends[i - 1] : 0);
        const size_t begin = visits.first[expert], count = visits.first[expert + 1] - begin;
        const size_t chunks = pieces_of(count, most), at = within % chunks * most;
        work(expert, within / chunks, begin + at, std::min(most, count - at));
    });
}

}  // namespace

void Decoder::check_experts(const Experts& experts) const {
    const size_t hidden = shape_.hidden;
    require(experts.used > 0 && experts.used <= experts.each.size(),
            std::to_string(experts.used) + " of " + std::to_string(experts.each.size()) + " experts");
    require(experts.inner > 0, "experts without a width");
    check_linear(experts.router, "a router", experts.each.size() + experts.has_shared(), hidden);
    require(experts.router.matrix->kind == Kind::F32, "a router is not in float32");
    const auto check_expert = [&](const Expert& expert, size_t inner) {
        check_linear(expert.gate, "a gate of an expert", inner, hidden);
        check_linear(expert.up, "an up projection of an expert", inner, hidden);
        check_linear(expert.down, "a down projection of an expert", hidden, inner);
    };
    const Expert& first = experts.each[0];
    for (const Expert& expert : experts.each) {
        check_expert(expert, experts.inner);
        require(expert.gate.matrix->kind == first.gate.matrix->kind && expert.up.matrix->kind == first.up.matrix->kind &&
                    expert.down.matrix->kind == first.down.matrix->kind, "experts have weights of several types");
    }
    if (experts.has_shared()) check_expert(experts.shared, experts.shared.gate.matrix->outputs);
}

// Which experts each token asks, from logits in float32 that have the same bits in any company.
void Decoder::route(Step& step, const Layer& layer) const {
    const Experts& experts = *layer.experts;
    Visits& visits = *step.visits;
    const Matrix& router = *experts.router.matrix;
    const size_t tokens = step.tokens, width = router.tiles * TILE, asked = experts.asked();
    prepare(step.x.data(), shape_.hidden, norm_or_none(layer.mlp_norm), step.in, {&experts.router}, nullptr);
    visits.logits.resize(tokens * width);
    Pool::shared().run(router.tiles, threads_, [&](size_t tile, size_t) {
        kernels_->multiply(router, tile, 1, 1, step.in, 0, tokens, visits.logits.data() + tile * TILE, width);
    });
    visits.experts.resize(tokens * asked);
    visits.weights.resize(tokens * asked);
    Pool::shared().run(tokens, tokens < FEW ? 1 : threads_, [&](size_t token, size_t) {
        add_bias(experts.router, 0, router.outputs, visits.logits.data() + token * width, 1, width);
        choose(visits.logits.data() + token * width, experts, visits.experts.data() + token * asked,
               visits.weights.data() + token * asked);
    });
    sort(visits, experts.size(), asked);
}

// x += the sum of weight * down(activation(gate(in)) * up(in)) over the experts that a token asks
void Decoder::mix(Step& step, size_t number) const {
    const Layer& layer = layers_[number];
    const Experts& experts = *layer.experts;
    if (!step.visits) step.visits = std::make_shared<Visits>();
    Visits& visits = *step.visits;
    step.in.tokens = step.tokens;
    route(step, layer);
    const size_t count = visits.tokens.size(), asked = experts.asked(), hidden = shape_.hidden;
    const Expert &first = experts.each[0], &last = experts.at(experts.size() - 1);
    step.in.tokens = count;
    prepare(step.x.data(), hidden, norm_or_none(layer.mlp_norm), step.in,
            {&first.gate, &first.up, &last.gate, &last.up}, &visits.tokens);
    Inputs::Needs needs;
    for (const Expert* expert : {&first, &last}) needs |= *expert->down.matrix;
    step.inner.resize(count, std::max(first.down.matrix->inputs, last.down.matrix->inputs), needs);
    share(visits, CHUNK, threads_, [&](size_t expert) { return pieces_of(experts.at(expert).gate.matrix->outputs, BLOCK); },
          [&](size_t number_of, size_t block, size_t visit, size_t size) {
              const Expert& expert = experts.at(number_of);
              gate_block(expert.gate, expert.up, expert.down, block, step.in, visit, size, step.inner);
          });
    const size_t tiles = first.down.matrix->tiles, width = tiles * TILE;
    visits.outputs.resize(count * width);
    share(visits, CHUNK, threads_, [&](size_t) { return pieces_of(tiles, WIDE); },
          [&](size_t expert, size_t part, size_t visit, size_t size) {
              const size_t tile = part * WIDE, wide = std::min(WIDE, tiles - tile);
              const Linear& down = experts.at(expert).down;
              float* to = visits.outputs.data() + visit * width + tile * TILE;
              kernels_->multiply(*down.matrix, tile, wide, WIDE * threads_, step.inner, visit, size, to, width);
              add_bias(down, tile * TILE, std::min(wide * TILE, hidden - tile * TILE), to, size, width);
          });
    Pool::shared().run(step.tokens, step.tokens < FEW ? 1 : threads_, [&](size_t token, size_t) {
        std::vector<float> sum(hidden, 0.0f);
        for (size_t i = token * asked; i < (token + 1) * asked; i++) {
            const float* from = visits.outputs.data() + visits.places[i] * width;
            for (size_t k = 0; k < hidden; k++) sum[k] += visits.weights[i] * from[k];
        }
        join_token(step.x.data() + token * hidden, sum.data(), layer.mlp_post_norm);
    });
    step.in.tokens = step.tokens;  // as the next layer expects it
}

}  // namespace outrider
