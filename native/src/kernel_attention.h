// Attention of a few tokens over one key head. Keys and values are taken in stretches that stay in the processor's
// cache, each for all queries. Every number is one sum in the order of dimensions or positions, so how queries, slots
// and dimensions are grouped shows in no bit.
#pragma once

#include <type_traits>

#include "kernel_lanes.h"

namespace {

constexpr int MOST_SIDE = 6;     // queries that are taken side by side
constexpr size_t STRETCH = 512;  // slots, in whole blocks of 16
// Processors fetch ahead within 4 KB, which is soon at its end here: what comes next is asked for.
constexpr size_t LINE = 64, SLOTS_AHEAD = 16;

// Blocks of keys, or parts of values, that `side` queries take at once: as many as their sums leave registers for.
constexpr int across(int side) {
#if defined(OUTRIDER_AVX512)
    return side <= 2 ? 8 : 4;
#else
    return side == 1 ? 4 : side == 2 ? 2 : 1;
#endif
}

template <bool HALF>
Lanes load_number(const uint8_t* base, size_t at) {
    return HALF ? Lanes::load_half(reinterpret_cast<const uint16_t*>(base) + at)
                : Lanes::load(reinterpret_cast<const float*>(base) + at);
}

template <bool HALF>
const uint8_t* keys_of_block(const Span& span, size_t block) {
    constexpr size_t BLOCKS = Span::SLOTS / 16;
    return span.keys + block / BLOCKS * span.stride + block % BLOCKS * 16 * span.head_size * (HALF ? 2 : 4);
}

template <bool HALF>
const uint8_t* values_of_slot(const Span& span, size_t slot) {
    return span.values + slot / Span::SLOTS * span.stride + slot % Span::SLOTS * span.value_size * (HALF ? 2 : 4);
}

// Calls `work` with the number of queries as a constant, for groups of nearly equal size.
template <class Work>
void in_groups(size_t count, Work work) {
    const size_t groups = (count + MOST_SIDE - 1) / MOST_SIDE;
    for (size_t group = 0; group < groups; group++) {
        const size_t first = count * group / groups;
        switch (count * (group + 1) / groups - first) {
            case 1: work(first, std::integral_constant<int, 1>()); break;
            case 2: work(first, std::integral_constant<int, 2>()); break;
            case 3: work(first, std::integral_constant<int, 3>()); break;
            case 4: work(first, std::integral_constant<int, 4>()); break;
            case 5: work(first, std::integral_constant<int, 5>()); break;
            default: work(first, std::integral_constant<int, MOST_SIDE>());
        }
    }
}

// Scores of Q queries against the keys of blocks of slots, B at once: for each slot the dimensions in turn.
template <bool HALF, int Q, int B>
void score(const Span& span, size_t block, size_t end, const float* const* queries, float scale,
           float* const* scores) {
    for (; block + B <= end; block += B) {
        constexpr size_t STEP = HALF ? 32 : 64;  // bytes of a dimension of a block
        const uint8_t *keys[B], *next[B];
        for (int b = 0; b < B; b++) {
            keys[b] = keys_of_block<HALF>(span, block + b);
            next[b] = keys_of_block<HALF>(span, block + B + b);
        }
        Lanes sum[Q][B];
        for (int q = 0; q < Q; q++)
            for (int b = 0; b < B; b++) sum[q][b] = Lanes::set(0);
        for (size_t d = 0; d < span.head_size; d++) {
            Lanes key[B];
            for (int b = 0; b < B; b++) {
                key[b] = load_number<HALF>(keys[b], d * 16);
                if (d * STEP % LINE == 0) __builtin_prefetch(next[b] + d * STEP);
            }
            for (int q = 0; q < Q; q++) {
                const Lanes query = Lanes::set(queries[q][d]);
                for (int b = 0; b < B; b++) sum[q][b] = Lanes::fma(key[b], query, sum[q][b]);
            }
        }
        for (int q = 0; q < Q; q++)
            for (int b = 0; b < B; b++) (sum[q][b] * Lanes::set(scale)).store(scores[q] + (block + b) * 16);
    }
    if constexpr (B > 1) score<HALF, Q, B / 2>(span, block, end, queries, scale, scores);
}

// The scores of a path, capped unless `cap` is 0, become weights, side by side from `path.first` on; returns 1 over their
// sum, to which a sink adds as a score without a value, if there is one.
float weigh(const Path& path, float cap, const float* sink, float* scores) {
    const size_t size = path.size();
    for (size_t i = 0; i < path.tail_size; i++) scores[path.straight + i] = scores[path.tail[i]];  // slots rise
    float* weights = scores + path.first;
    for (size_t i = 0; cap > 0 && i < size; i += 16) capped(Lanes::load(weights + i), cap).store(weights + i);
    for (size_t i = size; i % 16; i++) weights[i] = -INFINITY;
    Lanes most = Lanes::set(-INFINITY), total = Lanes::set(0);
    for (size_t i = 0; i < size; i += 16) most = Lanes::max(most, Lanes::load(weights + i));
    if (sink) most = Lanes::max(Lanes::set(*sink), most);
    const Lanes largest = Lanes::set(Lanes::largest(most));
    for (size_t i = 0; i < size; i += 16) exponential(Lanes::load(weights + i) - largest).store(weights + i);
    for (size_t i = size; i % 16; i++) weights[i] = 0;
    for (size_t i = 0; i < size; i += 16) total = total + Lanes::load(weights + i);
    const float sum = Lanes::sum(total);
    return 1.0f / (sink ? sum + Lanes::largest(exponential(Lanes::set(*sink) - largest)) : sum);
}

// Positions one after the other: slots first, first + 1, ..., or those of a list.
struct Slots {
    size_t first, count;
    const int32_t* list;

    size_t operator[](size_t i) const { return list ? static_cast<size_t>(list[i]) : first + i; }
    size_t ahead(size_t i) const { return list ? static_cast<size_t>(list[i]) : first + i + SLOTS_AHEAD; }
};

// Adds the weighted values of Q queries, C parts of 16 dimensions at once: for each dimension the positions in turn.
// weights[q][i] is that of the i-th position.
template <bool HALF, int Q, int C>
void mix(const Span& span, Slots slots, size_t part, const float* const* weights, float* const* sums) {
    for (; part + C <= span.value_size / 16; part += C) {
        Lanes sum[Q][C];
        for (int q = 0; q < Q; q++)
            for (int c = 0; c < C; c++) sum[q][c] = Lanes::load(sums[q] + (part + c) * 16);
        for (size_t i = 0; i < slots.count; i++) {
            const uint8_t* values = values_of_slot<HALF>(span, slots[i]);
            const uint8_t* next = values_of_slot<HALF>(span, slots.ahead(i)) + part * 16 * (HALF ? 2 : 4);
            for (size_t at = 0; at < C * 16 * (HALF ? 2 : 4); at += LINE) __builtin_prefetch(next + at);
            Lanes value[C];
            for (int c = 0; c < C; c++) value[c] = load_number<HALF>(values, (part + c) * 16);
            for (int q = 0; q < Q; q++) {
                const Lanes weight = Lanes::set(weights[q][i]);
                for (int c = 0; c < C; c++) sum[q][c] = Lanes::fma(value[c], weight, sum[q][c]);
            }
        }
        for (int q = 0; q < Q; q++)
            for (int c = 0; c < C; c++) sum[q][c].store(sums[q] + (part + c) * 16);
    }
    if constexpr (C > 1) mix<HALF, Q, C / 2>(span, slots, part, weights, sums);
}

// The same for `count` queries whose weights stand at `place` of their scores.
template <bool HALF>
void mix_all(const Span& span, Slots slots, size_t place, size_t count, const float* const* scores,
             float* const* sums) {
    if (!slots.count) return;
    in_groups(count, [&](size_t first, auto side) {
        constexpr int Q = decltype(side)::value;
        const float* weights[Q];
        for (int q = 0; q < Q; q++) weights[q] = scores[first + q] + place;
        mix<HALF, Q, across(Q)>(span, slots, 0, weights, sums + first);
    });
}

// Slots from `first` up to `end`, whose weights stand at their own numbers.
template <bool HALF>
void mix_straight(const Span& span, size_t first, size_t end, size_t count, const float* const* scores,
                  float* const* sums) {
    for (size_t slot = first; slot < end; slot += STRETCH)
        mix_all<HALF>(span, {slot, end - slot < STRETCH ? end - slot : STRETCH, nullptr}, slot, count, scores, sums);
}

template <bool HALF>
void attend_in(const Span& span, size_t count, const float* const* queries, const Path* const* paths, size_t slots,
               float scale, float cap, const float* sinks, float* scratch, float* const* outputs) {
    float* scores[outrider::MOST_QUERIES];
    float* sums[outrider::MOST_QUERIES];
    float inverses[outrider::MOST_QUERIES];
    size_t least = slots, common = 0, common_end = slots;  // slots that somebody, and that everybody sees
    for (size_t q = 0; q < count; q++) {
        scores[q] = scratch + q * (slots + 32 + span.value_size);
        sums[q] = scores[q] + slots + 32;
        for (size_t d = 0; d < span.value_size; d++) sums[q][d] = 0;
        least = paths[q]->first < least ? paths[q]->first : least;
        common = paths[q]->first > common ? paths[q]->first : common;
        common_end = paths[q]->straight < common_end ? paths[q]->straight : common_end;
    }
    if (common_end < common) common = common_end = 0;
    const size_t blocks = (slots + 15) / 16;
    for (size_t block = least / 16; block < blocks; block += STRETCH / 16) {
        const size_t end = block + STRETCH / 16 < blocks ? block + STRETCH / 16 : blocks;
        in_groups(count, [&](size_t first, auto side) {
            constexpr int Q = decltype(side)::value;
            score<HALF, Q, across(Q)>(span, block, end, queries + first, scale, scores + first);
        });
    }
    for (size_t q = 0; q < count; q++) inverses[q] = weigh(*paths[q], cap, sinks ? sinks + q : nullptr, scores[q]);
    // The queries of one token follow one another.
    auto each_token = [&](auto work) {
        for (size_t q = 0, same = 1; q < count; q += same, same = 1) {
            while (q + same < count && paths[q + same] == paths[q]) same++;
            work(*paths[q], same, scores + q, sums + q);
        }
    };
    each_token([&](const Path& path, size_t same, float* const* of, float* const* to) {
        mix_straight<HALF>(span, path.first, common, same, of, to);
    });
    mix_straight<HALF>(span, common, common_end, count, scores, sums);
    each_token([&](const Path& path, size_t same, float* const* of, float* const* to) {
        mix_straight<HALF>(span, path.first > common_end ? path.first : common_end, path.straight, same, of, to);
        mix_all<HALF>(span, {0, path.tail_size, path.tail}, path.straight, same, of, to);
    });
    for (size_t q = 0; q < count; q++)
        for (size_t d = 0; d < span.head_size; d++) outputs[q][d] = sums[q][d] * inverses[q];
}

void attend(const Span& span, size_t count, const float* const* queries, const Path* const* paths, size_t slots,
            float scale, float cap, const float* sinks, float* scratch, float* const* outputs) {
    (span.half ? attend_in<true> : attend_in<false>)(span, count, queries, paths, slots, scale, cap, sinks, scratch,
                                                     outputs);
}

}  // namespace
