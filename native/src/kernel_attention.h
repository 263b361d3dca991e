// Attention of a few tokens over one key head.
#pragma once

#include "kernel_lanes.h"

namespace {

template <bool HALF>
Lanes load_number(const void* base, size_t at) {
    return HALF ? Lanes::load_half(static_cast<const uint16_t*>(base) + at)
                : Lanes::load(static_cast<const float*>(base) + at);
}

// Scores of Q queries against the keys of B neighbouring blocks of slots: for each slot the dimensions in turn.
template <bool HALF, int Q, int B>
void score(const Span& span, size_t block, const float* const* queries, float scale, float* const* scores) {
    Lanes sum[Q][B];
    for (int q = 0; q < Q; q++)
        for (int b = 0; b < B; b++) sum[q][b] = Lanes::set(0);
    for (size_t d = 0; d < span.head_size; d++)
        for (int b = 0; b < B; b++) {
            const Lanes key = load_number<HALF>(span.keys, ((block + b) * span.head_size + d) * 16);
            for (int q = 0; q < Q; q++) sum[q][b] = Lanes::fma(key, Lanes::set(queries[q][d]), sum[q][b]);
        }
    for (int q = 0; q < Q; q++)
        for (int b = 0; b < B; b++) (sum[q][b] * Lanes::set(scale)).store(scores[q] + (block + b) * 16);
}

template <bool HALF, int Q>
void score_all(const Span& span, size_t first, size_t end, const float* const* queries, float scale,
               float* const* scores) {
    size_t block = first;
    for (; block + 2 <= end; block += 2) score<HALF, Q, 2>(span, block, queries, scale, scores);
    if (block < end) score<HALF, Q, 1>(span, block, queries, scale, scores);
}

// Queries that are scored together.
#if defined(OUTRIDER_AVX512)
constexpr size_t MOST_SIDE = 6;  // 12 sums in 32 registers
#else
constexpr size_t MOST_SIDE = 4;
#endif

// The scores of a path side by side become weights; returns 1 over their sum.
float weigh(const Path& path, const float* scores, float* weights) {
    const size_t straight = path.straight - path.first, size = path.size();
    for (size_t i = 0; i < straight; i++) weights[i] = scores[path.first + i];
    for (size_t i = 0; i < path.tail_size; i++) weights[straight + i] = scores[path.tail[i]];
    for (size_t i = size; i % 16; i++) weights[i] = -INFINITY;
    Lanes most = Lanes::set(-INFINITY), total = Lanes::set(0);
    for (size_t i = 0; i < size; i += 16) most = Lanes::max(most, Lanes::load(weights + i));
    const Lanes largest = Lanes::set(Lanes::largest(most));
    for (size_t i = 0; i < size; i += 16) exponential(Lanes::load(weights + i) - largest).store(weights + i);
    for (size_t i = size; i % 16; i++) weights[i] = 0;
    for (size_t i = 0; i < size; i += 16) total = total + Lanes::load(weights + i);
    return 1.0f / Lanes::sum(total);
}

// Values of Q queries that share a path, C parts of 16 dimensions: for each dimension the positions in turn.
template <bool HALF, int Q, int C>
void mix(const Span& span, const Path& path, size_t part, const float* const* weights, const float* inverses,
         float* const* outputs) {
    Lanes sum[Q][C];
    for (int q = 0; q < Q; q++)
        for (int c = 0; c < C; c++) sum[q][c] = Lanes::set(0);
    auto add = [&](size_t place, size_t slot) {
        for (int c = 0; c < C; c++) {
            const Lanes value = load_number<HALF>(span.values, slot * span.value_size + (part + c) * 16);
            for (int q = 0; q < Q; q++) sum[q][c] = Lanes::fma(value, Lanes::set(weights[q][place]), sum[q][c]);
        }
    };
    const size_t straight = path.straight - path.first;
    for (size_t i = 0; i < straight; i++) add(i, path.first + i);
    for (size_t i = 0; i < path.tail_size; i++) add(straight + i, static_cast<size_t>(path.tail[i]));
    for (int q = 0; q < Q; q++)
        for (int c = 0; c < C; c++) {
            float at[16];
            (sum[q][c] * Lanes::set(inverses[q])).store(at);
            const size_t from = (part + c) * 16;
            for (size_t i = 0; i < 16 && from + i < span.head_size; i++) outputs[q][from + i] = at[i];
        }
}

template <bool HALF, int Q>
void mix_all(const Span& span, const Path& path, const float* const* weights, const float* inverses,
             float* const* outputs) {
    const size_t parts = span.value_size / 16;
    size_t part = 0;
    for (; part + 4 <= parts; part += 4) mix<HALF, Q, 4>(span, path, part, weights, inverses, outputs);
    for (; part < parts; part++) mix<HALF, Q, 1>(span, path, part, weights, inverses, outputs);
}

template <bool HALF>
void attend_in(const Span& span, size_t count, const float* const* queries, const Path* const* paths, size_t slots,
               float scale, float* scratch, float* const* outputs) {
    const size_t room = slots + 32;
    float* scores[outrider::MOST_QUERIES];
    float* weights[outrider::MOST_QUERIES];
    float inverses[outrider::MOST_QUERIES];
    size_t first = slots;
    for (size_t q = 0; q < count; q++) {
        scores[q] = scratch + 2 * q * room;
        weights[q] = scores[q] + room;
        first = paths[q]->first < first ? paths[q]->first : first;
    }
    const size_t begin = first / 16, end = (slots + 15) / 16;
    for (size_t q = 0; q < count;) {
        const size_t side = count - q < MOST_SIDE ? count - q : MOST_SIDE;
        auto run = side == 1   ? score_all<HALF, 1>
                   : side == 2 ? score_all<HALF, 2>
                   : side == 3 ? score_all<HALF, 3>
                   : side < 6  ? score_all<HALF, 4>
                               : score_all<HALF, MOST_SIDE>;
        run(span, begin, end, queries + q, scale, scores + q);
        q += side == 5 ? 4 : side;
    }
    for (size_t q = 0; q < count; q++) inverses[q] = weigh(*paths[q], scores[q], weights[q]);
    for (size_t q = 0; q < count;) {
        size_t same = 1;  // queries of one token follow one another
        while (same < 4 && q + same < count && paths[q + same] == paths[q]) same++;
        auto run = same == 1 ? mix_all<HALF, 1> : same == 2 ? mix_all<HALF, 2> : same == 3 ? mix_all<HALF, 3>
                                                                                           : mix_all<HALF, 4>;
        run(span, *paths[q], weights + q, inverses + q, outputs + q);
        q += same;
    }
}

void attend(const Span& span, size_t count, const float* const* queries, const Path* const* paths, size_t slots,
            float scale, float* scratch, float* const* outputs) {
    (span.half ? attend_in<true> : attend_in<false>)(span, count, queries, paths, slots, scale, scratch, outputs);
}

}  // namespace
