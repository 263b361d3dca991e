#include "decoder.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "pool.h"

namespace outrider {

namespace {

constexpr size_t MOST_WIDE = 512;  // outputs of one piece of work

// Heads whose outputs are whole tiles together.
size_t heads_of_a_piece(size_t head_size) {
    size_t heads = 1;
    while (heads * head_size % TILE) heads *= 2;
    return heads;
}

}  // namespace

void require(bool holds, const std::string& what) {
    if (!holds) throw std::invalid_argument(what);
}

void check_linear(const Linear& linear, const char* name, size_t outputs, size_t inputs) {
    require(linear.matrix && linear.matrix->outputs == outputs && linear.matrix->inputs == inputs,
            std::string(name) + " is not " + std::to_string(outputs) + " times " + std::to_string(inputs));
    require(linear.bias.empty() || linear.bias.size() == outputs, std::string(name) + " has a bias of another size");
}

void add_bias(const Linear& linear, size_t first, size_t outputs, float* y, size_t tokens, size_t stride) {
    if (linear.bias.empty()) return;
    for (size_t token = 0; token < tokens; token++)
        for (size_t i = 0; i < outputs; i++) y[token * stride + i] += linear.bias[first + i];
}

Decoder::Decoder(Shape shape, std::vector<Layer> layers, size_t inputs, const std::string& set, size_t threads)
    : shape_(std::move(shape)), layers_(std::move(layers)), kernels_(find_kernels(set.c_str())),
      threads_(std::min(threads, Pool::MOST_THREADS)) {
    require(kernels_ != nullptr, "this processor or build has no instruction set " + set);
    require(threads_ > 0, "0 threads");
    check(inputs);
    if (shape_.attention_scale == 0) shape_.attention_scale = 1.0f / std::sqrt(static_cast<float>(shape_.head_size));
}

void Decoder::check(size_t inputs) const {
    const Shape& s = shape_;
    require(s.hidden && s.heads && s.key_heads && s.head_size && s.inner && s.vocabulary && !layers_.empty(),
            "a size of the model is 0");
    require(s.head_size <= Cache::MOST_HEAD, "a head of " + std::to_string(s.head_size) + " numbers");
    require(heads_of_a_piece(s.head_size) * s.head_size <= MOST_WIDE, "heads of " + std::to_string(s.head_size));
    require(s.heads % s.key_heads == 0, "query heads are not shared equally by key heads");
    for (const Rotation& rotation : s.rotations)
        require(2 * rotation.frequencies.size() <= s.head_size, "more frequencies than pairs in a head");
    for (float scale : {s.embedding_scale, s.residual_scale, s.logit_divisor})
        require(std::isfinite(scale) && scale != 0, "a scale of " + std::to_string(scale));
    require(s.query_step > 0, "positions in steps of 0");
    for (float least_0 : {s.attention_scale, s.attention_cap, s.logit_cap, s.query_slope})
        require(std::isfinite(least_0) && least_0 >= 0, "a scale or cap of " + std::to_string(least_0));
    const size_t queries = s.heads * s.head_size, keys = s.key_heads * s.head_size;
    for (const Layer& layer : layers_) {
        for (const auto* norm :
             {&layer.attention_norm, &layer.attention_post_norm, &layer.mlp_norm, &layer.mlp_post_norm})
            require(norm->empty() || norm->size() == s.hidden, "a norm's size");
        require(layer.query_norm.empty() == layer.key_norm.empty(), "only one of query and key has a norm");
        require(layer.query_norm.empty() ||
                    (layer.query_norm.size() == s.head_size && layer.key_norm.size() == s.head_size) ||
                    (layer.query_norm.size() == queries && layer.key_norm.size() == keys),
                "a head norm's size");
        require(!s.norms_last || layer.query_norm.size() == s.head_size, "no norms of turned heads");
        require(layer.rotation >= -1 && layer.rotation < static_cast<int64_t>(s.rotations.size()),
                "there is no rotation " + std::to_string(layer.rotation));
        check_linear(layer.query, "a query", queries, inputs);
        check_linear(layer.key, "a key", keys, inputs);
        check_linear(layer.value, "a value", keys, inputs);
        check_linear(layer.output, "an attention output", s.hidden, queries);
        require(layer.sinks.empty() || layer.sinks.size() == s.heads, "sinks are not one for each head");
        if (layer.experts) {
            check_experts(*layer.experts);
            continue;
        }
        check_linear(layer.gate, "a gate", s.inner, s.hidden);
        check_linear(layer.up, "an up projection", s.inner, s.hidden);
        check_linear(layer.down, "a down projection", s.hidden, s.inner);
    }
}

void Decoder::check_rows(const Cache& cache, const std::vector<Row>& rows, size_t known) const {
    for (const Row& row : rows) {
        require(row.row < cache.rows, "row " + std::to_string(row.row) + " is not in the cache");
        require(!row.tokens.empty() && row.tokens.size() <= row.parents.size() && row.wanted <= row.tokens.size(),
                "row " + std::to_string(row.row) + " has no tokens, or fewer than are wanted");
        require(row.kept <= cache.capacity && row.parents.size() <= cache.capacity - row.kept,
                "row " + std::to_string(row.row) + " does not fit into the cache");
        for (size_t node = 0; node < row.parents.size(); node++)
            require(row.parents[node] >= -1 && row.parents[node] < static_cast<int64_t>(node),
                    "a parent comes after its token");
        for (int32_t token : row.tokens)
            require(token >= 0 && static_cast<size_t>(token) < known,
                    "token " + std::to_string(token) + " is not in the vocabulary");
    }
}

void Decoder::lay_out(Step& step, const std::vector<Row>& rows, size_t known) const {
    check_rows(step.cache, rows, known);
    for (const Row& row : rows) {
        const size_t nodes = row.parents.size(), first = nodes - row.tokens.size();
        std::vector<size_t> straight(nodes), depth(nodes);
        for (size_t node = 0; node < nodes; node++) {
            const int32_t parent = row.parents[node];
            depth[node] = parent < 0 ? 0 : depth[static_cast<size_t>(parent)] + 1;
            const bool chain = parent == static_cast<int64_t>(node) - 1 && depth[node] == node;
            straight[node] = chain ? row.kept + node + 1 : parent < 0 ? row.kept : straight[static_cast<size_t>(parent)];
            if (node < first) continue;
            std::vector<int32_t> tail;
            for (int32_t at = static_cast<int32_t>(node);
                 at >= 0 && row.kept + static_cast<size_t>(at) >= straight[node]; at = row.parents[static_cast<size_t>(at)])
                tail.push_back(static_cast<int32_t>(row.kept) + at);
            std::reverse(tail.begin(), tail.end());
            step.row.push_back(row.row);
            step.slot.push_back(row.kept + node);
            step.position.push_back(row.kept + depth[node]);
            step.straight.push_back(straight[node]);
            step.tails.push_back(std::move(tail));
            if (nodes - node <= row.wanted) step.wanted.push_back(step.ids.size());
            step.ids.push_back(row.tokens[node - first]);
        }
    }
    const size_t tokens = step.tokens = step.ids.size();
    step.x.resize(tokens * shape_.hidden);
    step.queries.resize(tokens * shape_.heads * shape_.head_size);
    step.attended.resize(step.queries.size());
    step.scratch.resize(threads_);
    step.in.tokens = tokens;
    for (const Rotation& rotation : shape_.rotations) {
        Turns turns;
        turns.cosines.reserve(tokens * rotation.frequencies.size());
        turns.sines.reserve(tokens * rotation.frequencies.size());
        for (size_t position : step.position)
            for (float frequency : rotation.frequencies) {  // in float32, as transformers does
                const float angle = static_cast<float>(position) * frequency;
                turns.cosines.push_back(std::cos(angle) * rotation.scale);
                turns.sines.push_back(std::sin(angle) * rotation.scale);
            }
        step.turns.push_back(std::move(turns));
    }
    for (size_t token = 0; shape_.query_slope > 0 && token < tokens; token++)
        step.query_scales.push_back(static_cast<float>(
            1 + shape_.query_slope * std::log1p(static_cast<double>(step.position[token] / shape_.query_step))));
}

// From x [tokens, size], normed first if there is a norm, to the inputs of linears; `picked` chooses tokens.
void Decoder::prepare(const float* x, size_t size, const float* norm, Inputs& in,
                    const std::vector<const Linear*>& consumers, const std::vector<size_t>* picked) const {
    Inputs::Needs needs;
    for (const Linear* linear : consumers) needs |= *linear->matrix;
    in.resize(in.tokens, size, needs);
    Pool::shared().run(in.tokens, in.tokens < FEW ? 1 : threads_, [&](size_t token, size_t) {
        std::vector<float> normed;
        const float* from = x + (picked ? (*picked)[token] : token) * size;
        if (norm) {
            normed.resize(size);
            kernels_->norm(from, norm, size, shape_.epsilon, normed.data());
            from = normed.data();
        }
        if (needs.quants) kernels_->quantise(from, size, in, 0, token);
        for (size_t block = 0; needs.floats && block < in.blocks; block++) {
            const size_t count = std::min(BLOCK, size - block * BLOCK);
            float* to = in.plain.data() + (block * in.tokens + token) * BLOCK;
            std::copy_n(from + block * BLOCK, count, to);
            std::fill(to + count, to + BLOCK, 0.0f);
        }
    });
}

// x += linear(in)
void Decoder::add(std::vector<float>& x, size_t tokens, const Linear& linear, const Inputs& in) const {
    const Matrix& m = *linear.matrix;
    const size_t wide = m.tiles >= 32 * threads_ ? 4 : 2, parts = pieces_of(m.tiles, wide);
    const size_t chunks = pieces_of(tokens, CHUNK);
    Pool::shared().run(parts * chunks, threads_, [&](size_t piece, size_t) {
        alignas(64) float y[CHUNK * 4 * TILE];
        const size_t tile = piece / chunks * wide, tiles = std::min(wide, m.tiles - tile);
        const size_t first = piece % chunks * CHUNK, count = std::min(CHUNK, tokens - first);
        kernels_->multiply(m, tile, tiles, wide * threads_, in, first, count, y, wide * TILE);
        const size_t outputs = std::min(tiles * TILE, m.outputs - tile * TILE);
        for (size_t token = 0; token < count; token++) {
            float* to = x.data() + (first + token) * m.outputs + tile * TILE;
            const float* from = y + token * wide * TILE;
            for (size_t i = 0; i < outputs; i++)
                to[i] += linear.bias.empty() ? from[i] : from[i] + linear.bias[tile * TILE + i];
        }
    });
}

void Decoder::join(Step& step, const Linear& linear, const Inputs& in, const std::vector<float>& norm) const {
    if (norm.empty() && shape_.residual_scale == 1) return add(step.x, step.tokens, linear, in);
    const size_t width = shape_.hidden;
    step.made.assign(step.tokens * width, 0.0f);
    add(step.made, step.tokens, linear, in);
    Pool::shared().run(step.tokens, step.tokens < FEW ? 1 : threads_, [&](size_t token, size_t) {
        join_token(step.x.data() + token * width, step.made.data() + token * width, norm);
    });
}

void Decoder::join_token(float* x, float* made, const std::vector<float>& norm) const {
    const size_t width = shape_.hidden;
    if (!norm.empty()) kernels_->norm(made, norm.data(), width, shape_.epsilon, made);
    for (size_t i = 0; i < width; i++) x[i] += made[i] * shape_.residual_scale;
}

void Decoder::place(Step& step, size_t number, bool is_query, size_t token, size_t head, float* from) const {
    const size_t size = shape_.head_size;
    if (const int rotation = layers_[number].rotation; rotation >= 0) {
        const size_t pairs = shape_.rotations[static_cast<size_t>(rotation)].frequencies.size();
        const Turns& turns = step.turns[static_cast<size_t>(rotation)];
        kernels_->rotate(from, turns.cosines.data() + token * pairs, turns.sines.data() + token * pairs, pairs);
    }
    if (shape_.norms_last) {
        const std::vector<float>& norm = is_query ? layers_[number].query_norm : layers_[number].key_norm;
        kernels_->norm(from, norm.data(), size, shape_.epsilon, from);
    }
    if (!is_query) return step.cache.put(*kernels_, number, step.row[token], head, step.slot[token], from, nullptr);
    float* to = step.queries.data() + (token * shape_.heads + head) * size;
    if (to != from) std::copy_n(from, size, to);
    if (step.query_scales.empty()) return;
    for (size_t d = 0; d < size; d++) to[d] *= step.query_scales[token];
}

void Decoder::norm_whole(Step& step, size_t number, Projected which) const {
    const Layer& layer = layers_[number];
    Pool::shared().run(step.tokens, step.tokens < FEW ? 1 : threads_, [&](size_t token, size_t) {
        for (const bool is_query : {true, false}) {
            if (which == (is_query ? Projected::keys : Projected::queries)) continue;
            const std::vector<float>& norm = is_query ? layer.query_norm : layer.key_norm;
            float* all = (is_query ? step.queries : step.keys).data() + token * norm.size();
            kernels_->norm(all, norm.data(), norm.size(), shape_.epsilon, all);
            for (size_t head = 0; head < norm.size() / shape_.head_size; head++)
                place(step, number, is_query, token, head, all + head * shape_.head_size);
        }
    });
}

// Queries, keys and values of a layer; keys and values go into the cache.
void Decoder::project(Step& step, size_t number, Projected which) const {
    const Layer& layer = layers_[number];
    const size_t size = shape_.head_size, group = heads_of_a_piece(size);
    const bool norms_whole = layer.query_norm.size() > size;  // with one head either way is the same
    if (norms_whole) step.keys.resize(step.tokens * shape_.key_heads * size);
    const size_t of_queries = which == Projected::keys ? 0 : pieces_of(shape_.heads, group);
    const size_t of_keys = which == Projected::queries ? 0 : pieces_of(shape_.key_heads, group);
    const size_t chunk = std::max<size_t>(1, CHUNK * 64 / (group * size)), chunks = pieces_of(step.tokens, chunk);
    Pool::shared().run((of_queries + 2 * of_keys) * chunks, threads_, [&](size_t piece, size_t) {
        alignas(64) float y[CHUNK * 64 + MOST_WIDE];
        size_t part = piece / chunks;
        const bool is_query = part < of_queries, is_key = !is_query && part < of_queries + of_keys;
        part -= is_query ? 0 : is_key ? of_queries : of_queries + of_keys;
        const Linear& linear = is_query ? layer.query : is_key ? layer.key : layer.value;
        const std::vector<float>& norm = is_query ? layer.query_norm : layer.key_norm;
        const size_t head = part * group, heads = std::min(group, (is_query ? shape_.heads : shape_.key_heads) - head);
        const size_t tile = head * size / TILE, stride = group * size;
        const size_t first = piece % chunks * chunk, count = std::min(chunk, step.tokens - first);
        const size_t tiles = pieces_of(heads * size, TILE);
        kernels_->multiply(*linear.matrix, tile, tiles, tiles * threads_, step.in, first, count, y, stride);
        for (size_t i = 0; i < count * heads; i++) {
            const size_t token = first + i / heads, h = i % heads;
            float* y_head = y + i / heads * stride + h * size;
            const float* bias = linear.bias.empty() ? nullptr : linear.bias.data() + (head + h) * size;
            for (size_t d = 0; bias && d < size; d++) y_head[d] += bias[d];
            if (!is_query && !is_key) {
                step.cache.put(*kernels_, number, step.row[token], head + h, step.slot[token], nullptr, y_head);
            } else if (norms_whole) {
                const size_t all = is_query ? shape_.heads : shape_.key_heads;
                std::copy_n(y_head, size, (is_query ? step.queries : step.keys).data() + (token * all + head + h) * size);
            } else {
                if (!norm.empty() && !shape_.norms_last) kernels_->norm(y_head, norm.data(), size, shape_.epsilon, y_head);
                place(step, number, is_query, token, head + h, y_head);
            }
        }
    });
    if (norms_whole) norm_whole(step, number, which);
}

void Decoder::attend(Step& step, size_t number) const {
    const size_t size = shape_.head_size, per_key = shape_.heads / shape_.key_heads, window = layers_[number].window;
    const bool sunk = !layers_[number].sinks.empty();
    // Several tokens share the reading of keys; few tokens are shared by heads, so that every thread has work.
    const bool apart = step.tokens * shape_.key_heads < 2 * threads_;
    const size_t heads = apart ? 1 : std::min(per_key, MOST_QUERIES), splits = pieces_of(per_key, heads);
    const size_t units = shape_.key_heads * splits;
    const size_t pieces = threads_ == 1 ? 1 : pieces_of(3 * threads_, units);  // of the tokens, at least
    const size_t together = std::max<size_t>(1, std::min(MOST_QUERIES / heads, step.tokens / pieces));
    std::vector<std::pair<size_t, size_t>> runs;  // neighbouring tokens of one row: the first, and the next one's
    for (size_t token = 0; token < step.tokens;) {
        size_t end = token + 1;
        while (end < step.tokens && end - token < together && step.row[end] == step.row[token]) end++;
        runs.emplace_back(token, end);
        token = end;
    }
    Pool::shared().run(runs.size() * units, threads_, [&](size_t piece, size_t thread) {
        // One head after the other, so that its keys and values stay near; the longest run first.
        const auto [first, end] = runs[runs.size() - 1 - piece % runs.size()];
        const size_t key_head = piece / runs.size() / splits, head = piece / runs.size() % splits * heads;
        const size_t count = std::min(heads, per_key - head);
        Path paths[MOST_QUERIES];
        const Path* path_of[MOST_QUERIES];
        const float* queries[MOST_QUERIES];
        float* outputs[MOST_QUERIES];
        float sinks[MOST_QUERIES];
        size_t n = 0, slots = 0;
        for (size_t token = first; token < end; token++) {
            Path& path = paths[token - first];
            const std::vector<int32_t>& tail = step.tails[token];
            const size_t length = step.straight[token] + tail.size();
            const size_t skipped = window && length > window ? length - window : 0;
            path.first = std::min(skipped, step.straight[token]);
            path.straight = step.straight[token];
            path.tail = tail.data() + (skipped - path.first);
            path.tail_size = tail.size() - (skipped - path.first);
            slots = std::max(slots, tail.empty() ? path.straight : static_cast<size_t>(tail.back()) + 1);
            for (size_t h = 0; h < count; h++, n++) {
                const size_t at = (token * shape_.heads + key_head * per_key + head + h) * size;
                path_of[n] = &path;
                queries[n] = step.queries.data() + at;
                outputs[n] = step.attended.data() + at;
                if (sunk) sinks[n] = layers_[number].sinks[key_head * per_key + head + h];
            }
        }
        std::vector<float>& scratch = step.scratch[thread];
        const Span span = step.cache.span(number, step.row[first], key_head);
        const size_t needed = n * (slots + 32 + span.value_size);
        if (scratch.size() < needed) scratch.resize(needed + n * 256);
        kernels_->attend(span, n, queries, path_of, slots, shape_.attention_scale, shape_.attention_cap,
                         sunk ? sinks : nullptr, scratch.data(), outputs);
    });
}

void Decoder::run(Step& step, size_t number, const float* x, size_t size, const float* norm) const {
    const Layer& layer = layers_[number];
    prepare(x, size, norm, step.in, {&layer.query, &layer.key, &layer.value}, nullptr);
    project(step, number, Projected::all);
    finish(step, number);
}

void Decoder::run_last(Step& step, size_t number, const float* x, size_t size, const float* norm) const {
    if (step.wanted.size() == step.tokens) return run(step, number, x, size, norm);
    const Layer& layer = layers_[number];
    prepare(x, size, norm, step.in, {&layer.key, &layer.value}, nullptr);
    project(step, number, Projected::keys);
    step.in.tokens = step.wanted.size();
    if (step.wanted.size()) prepare(x, size, norm, step.in, {&layer.query}, &step.wanted);
    keep_wanted(step);
    if (!step.tokens) return;
    project(step, number, Projected::queries);
    finish(step, number);
}

void Decoder::keep_wanted(Step& step) const {
    const auto keep = [&](auto& values, size_t each) {  // `each` of every token
        for (size_t i = 0; i < step.wanted.size(); i++) {
            if (step.wanted[i] == i) continue;
            std::move(values.begin() + static_cast<std::ptrdiff_t>(step.wanted[i] * each),
                      values.begin() + static_cast<std::ptrdiff_t>((step.wanted[i] + 1) * each),
                      values.begin() + static_cast<std::ptrdiff_t>(i * each));
        }
        values.resize(step.wanted.size() * each);
    };
    keep(step.ids, 1), keep(step.row, 1), keep(step.slot, 1), keep(step.position, 1);
    keep(step.tails, 1), keep(step.straight, 1);
    if (!step.query_scales.empty()) keep(step.query_scales, 1);
    for (size_t i = 0; i < step.turns.size(); i++) {
        const size_t pairs = shape_.rotations[i].frequencies.size();
        keep(step.turns[i].cosines, pairs), keep(step.turns[i].sines, pairs);
    }
    keep(step.x, shape_.hidden);
    step.tokens = step.wanted.size();
    std::iota(step.wanted.begin(), step.wanted.end(), size_t(0));
}

void Decoder::finish(Step& step, size_t number) const {
    const Layer& layer = layers_[number];
    attend(step, number);
    prepare(step.attended.data(), shape_.heads * shape_.head_size, nullptr, step.in, {&layer.output}, nullptr);
    join(step, layer.output, step.in, layer.attention_post_norm);
    if (layer.experts) return mix(step, number);
    prepare(step.x.data(), shape_.hidden, norm_or_none(layer.mlp_norm), step.in, {&layer.gate, &layer.up}, nullptr);
    transform(step, number);
}

void Decoder::gate_block(const Linear& gate_of, const Linear& up_of, const Linear& down, size_t block, const Inputs& in,
                         size_t first, size_t count, Inputs& inner) const {
    alignas(64) float gate[CHUNK * BLOCK], up[CHUNK * BLOCK];
    const size_t outputs = std::min(BLOCK, gate_of.matrix->outputs - block * BLOCK);
    const size_t tile = block * 2, tiles = pieces_of(outputs, TILE);
    kernels_->multiply(*gate_of.matrix, tile, tiles, 2 * threads_, in, first, count, gate, BLOCK);
    kernels_->multiply(*up_of.matrix, tile, tiles, 2 * threads_, in, first, count, up, BLOCK);
    add_bias(gate_of, block * BLOCK, outputs, gate, count, BLOCK);
    add_bias(up_of, block * BLOCK, outputs, up, count, BLOCK);
    for (size_t token = 0; token < count; token++) {
        float* g = gate + token * BLOCK;
        kernels_->gate(shape_.activation, g, up + token * BLOCK, outputs);
        if (down.matrix->quantised()) {
            kernels_->quantise(g, outputs, inner, block, first + token);
        } else {
            float* to = inner.plain.data() + (block * inner.tokens + first + token) * BLOCK;
            std::copy_n(g, outputs, to);
            std::fill(to + outputs, to + BLOCK, 0.0f);
        }
    }
}

// x += down(activation(gate(in)) * up(in))
void Decoder::transform(Step& step, size_t number) const {
    const Layer& layer = layers_[number];
    step.inner.resize(step.tokens, shape_.inner, Inputs::Needs() |= *layer.down.matrix);
    const size_t chunks = pieces_of(step.tokens, CHUNK), blocks = step.inner.blocks;
    Pool::shared().run(blocks * chunks, threads_, [&](size_t piece, size_t) {
        const size_t first = piece % chunks * CHUNK, count = std::min(CHUNK, step.tokens - first);
        gate_block(layer.gate, layer.up, layer.down, piece / chunks, step.in, first, count, step.inner);
    });
    join(step, layer.down, step.inner, layer.mlp_post_norm);
}

void Decoder::score(const Matrix& head, const Inputs& in, float* logits) const {
    const size_t wide = 8, parts = pieces_of(head.tiles, wide), chunks = pieces_of(in.tokens, CHUNK);
    Pool::shared().run(parts * chunks, threads_, [&](size_t piece, size_t) {
        alignas(64) float y[CHUNK * wide * TILE];
        const size_t tile = piece / chunks * wide, tiles = std::min(wide, head.tiles - tile);
        const size_t first = piece % chunks * CHUNK, count = std::min(CHUNK, in.tokens - first);
        kernels_->multiply(head, tile, tiles, wide * threads_, in, first, count, y, wide * TILE);
        const size_t outputs = std::min(tiles * TILE, head.outputs - tile * TILE);
        for (size_t token = 0; token < count; token++) {
            float *from = y + token * wide * TILE, *to = logits + (first + token) * head.outputs + tile * TILE;
            if (shape_.logit_divisor != 1)
                for (size_t i = 0; i < outputs; i++) from[i] /= shape_.logit_divisor;
            if (shape_.logit_cap > 0) kernels_->cap(from, outputs, shape_.logit_cap);
            std::copy_n(from, outputs, to);
        }
    });
}

}  // namespace outrider
