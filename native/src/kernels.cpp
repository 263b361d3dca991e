// All kernels, compiled once for each instruction set (OUTRIDER_SET). Nothing here may be shared with other files: a
// function compiled for AVX-512 must not be linked into code that runs without it. So no templates of the standard
// library, and everything stands in an unnamed namespace.
#include "kernels.h"

#include <cmath>

#if defined(OUTRIDER_AVX512)
#include "lanes_avx512.h"
#elif defined(OUTRIDER_AVX2)
#include "lanes_avx2.h"
#elif defined(OUTRIDER_NEON)
#include "lanes_neon.h"
#else
#include "lanes_portable.h"
#endif

namespace {

using outrider::BLOCK;
using outrider::Inputs;
using outrider::Kind;
using outrider::Matrix;
using outrider::Path;
using outrider::Span;
using outrider::TILE;

constexpr float ROUNDING = 12582912.0f;  // 1.5 * 2^23: added to a small number it rounds it to the nearest whole one

// e^x to about 1 unit in the last place, within the range of float32; NaN stays NaN. Cephes' polynomial.
Lanes exponential(Lanes x) {
    x = Lanes::min(Lanes::set(88.0f), Lanes::max(Lanes::set(-87.0f), x));
    const Lanes shifted = Lanes::fma(x, Lanes::set(1.44269504088896341f), Lanes::set(ROUNDING));
    const Lanes n = shifted - Lanes::set(ROUNDING);
    x = Lanes::fma(n, Lanes::set(-0.693359375f), x);
    x = Lanes::fma(n, Lanes::set(2.12194440e-4f), x);
    Lanes y = Lanes::set(1.9875691500e-4f);
    y = Lanes::fma(y, x, Lanes::set(1.3981999507e-3f));
    y = Lanes::fma(y, x, Lanes::set(8.3334519073e-3f));
    y = Lanes::fma(y, x, Lanes::set(4.1665795894e-2f));
    y = Lanes::fma(y, x, Lanes::set(1.6666665459e-1f));
    y = Lanes::fma(y, x, Lanes::set(5.0000001201e-1f));
    y = Lanes::fma(y, x * x, x + Lanes::set(1.0f));
    return y * Lanes::power(shifted);
}

// The last, incomplete lanes of x; the others are `fill`.
Lanes load_some(const float* x, size_t count, float fill) {
    float at[16];
    for (size_t i = 0; i < 16; i++) at[i] = i < count ? x[i] : fill;
    return Lanes::load(at);
}

// One linear

struct Q8 {
    static constexpr bool MINIMUM = false;
    template <int T, int R>
    static void block(const uint8_t* const* w, const int8_t* x, const int32_t* sums, Lanes (*out)[R]) {
        Products::q8<T, R>(w, x, sums, out);
    }
};

template <int OFFSET>
struct Q4 {
    static constexpr bool MINIMUM = OFFSET == 0;
    template <int T, int R>
    static void block(const uint8_t* const* w, const int8_t* x, const int32_t* sums, Lanes (*out)[R]) {
        Products::q4<OFFSET, T, R>(w, x, sums, out);
    }
};

// Which weights to fetch while others are multiplied: those so many bytes ahead, of every block whose number has this
// rest, so that each group of tokens fetches its share. The reading then costs no time of its own.
struct Ahead {
    size_t bytes, group, groups;
};

// T tiles times R tokens. For each token and output: for each block in turn, the exact sum of products times the
// input's scale, times the weight's scale, added by one fused operation; then the weights' minimum, if there is one.
template <class Format, int T, int R>
void quantised_tile(const Matrix& m, size_t tile, const Inputs& in, size_t token, float* out, size_t stride,
                    Ahead ahead) {
    Lanes total[T][R];
    const uint8_t* weights[T];
    const uint16_t* scales[T];
    for (int t = 0; t < T; t++) {
        weights[t] = m.quants(tile + t);
        scales[t] = m.scales(tile + t);
        for (int r = 0; r < R; r++) total[t][r] = Lanes::set(0);
    }
    const size_t bytes = m.block_bytes();
    for (size_t block = 0; block < m.blocks; block++) {
        const size_t at = block * in.tokens + token;
        if (ahead.bytes && block % ahead.groups == ahead.group)
            for (int t = 0; t < T; t++)
                for (size_t line = 0; line < bytes; line += 64) __builtin_prefetch(weights[t] + ahead.bytes + line, 0, 2);
        Lanes sums[T][R];
        Format::template block<T, R>(weights, in.quants.data() + at * BLOCK, in.sums.data() + at, sums);
        for (int t = 0; t < T; t++) {
            const Lanes scale = Lanes::load_half(scales[t]);
            for (int r = 0; r < R; r++)
                total[t][r] = Lanes::fma(sums[t][r] * Lanes::set(in.scales[at + r]), scale, total[t][r]);
            if (Format::MINIMUM) {
                const Lanes minimum = Lanes::load_half(scales[t] + TILE);
                for (int r = 0; r < R; r++) {
                    const float sum = in.scales[at + r] * static_cast<float>(in.sums[at + r]);
                    total[t][r] = Lanes::fma(Lanes::set(sum), minimum, total[t][r]);
                }
            }
            weights[t] += bytes;
            scales[t] += Format::MINIMUM ? 2 * TILE : TILE;
        }
    }
    for (int t = 0; t < T; t++)
        for (int r = 0; r < R; r++) total[t][r].store(out + r * stride + t * TILE);
}

struct Floats {
    static Lanes load(const uint8_t* at) { return Lanes::load(reinterpret_cast<const float*>(at)); }
    static constexpr size_t BYTES = 64;
};
struct Halves {
    static Lanes load(const uint8_t* at) { return Lanes::load_half(reinterpret_cast<const uint16_t*>(at)); }
    static constexpr size_t BYTES = 32;
};
struct Bfloats {
    static Lanes load(const uint8_t* at) { return Lanes::load_bfloat(reinterpret_cast<const uint16_t*>(at)); }
    static constexpr size_t BYTES = 32;
};

// For each token and output: one fused operation for each input in turn.
template <class Format, int T, int R>
void plain_tile(const Matrix& m, size_t tile, const Inputs& in, size_t token, float* out, size_t stride,
                Ahead) {
    Lanes total[T][R];
    const uint8_t* weights[T];
    for (int t = 0; t < T; t++) {
        weights[t] = m.quants(tile + t);
        for (int r = 0; r < R; r++) total[t][r] = Lanes::set(0);
    }
    for (size_t block = 0; block < m.blocks; block++) {
        const float* x = in.plain.data() + (block * in.tokens + token) * BLOCK;
        for (size_t k = 0; k < BLOCK; k++) {
            for (int t = 0; t < T; t++) {
                const Lanes w = Format::load(weights[t]);
                for (int r = 0; r < R; r++) total[t][r] = Lanes::fma(w, Lanes::set(x[r * BLOCK + k]), total[t][r]);
                weights[t] += Format::BYTES;
            }
        }
    }
    for (int t = 0; t < T; t++)
        for (int r = 0; r < R; r++) total[t][r].store(out + r * stride + t * TILE);
}

using Tile = void (*)(const Matrix&, size_t, const Inputs&, size_t, float*, size_t, Ahead);

template <int T, int R>
Tile tile_of(Kind kind) {
    switch (kind) {
        case Kind::Q8: return quantised_tile<Q8, T, R>;
        case Kind::Q4: return quantised_tile<Q4<8>, T, R>;
        case Kind::Q4M: return quantised_tile<Q4<0>, T, R>;
        case Kind::F32: return plain_tile<Floats, T, R>;
        case Kind::F16: return plain_tile<Halves, T, R>;
        default: return plain_tile<Bfloats, T, R>;
    }
}

template <int T>
Tile tile_of(Kind kind, size_t tokens) {
    switch (tokens) {
        case 1: return tile_of<T, 1>(kind);
        case 2: return tile_of<T, 2>(kind);
        case 3: return tile_of<T, 3>(kind);
        case 4: return tile_of<T, 4>(kind);
#if defined(OUTRIDER_AVX512)
        case 5: return tile_of<T, 5>(kind);
        default: return tile_of<T, 6>(kind);
#else
        default: return tile_of<T, 4>(kind);
#endif
    }
}

void multiply(const Matrix& m, size_t tile, size_t tiles, size_t next, const Inputs& in, size_t first, size_t count,
              float* out, size_t stride) {
    constexpr size_t T = Products::TILES, MOST = Products::TOKENS;
    const size_t groups = (count + MOST - 1) / MOST;
    for (size_t t = 0; t < tiles;) {
        const size_t side = tiles - t >= T ? T : 1;
        for (size_t group = 0; group < groups; group++) {  // of nearly equal size
            const size_t begin = count * group / groups, size = count * (group + 1) / groups - begin;
            const Tile run = side == T ? tile_of<T>(m.kind, size) : tile_of<1>(m.kind, size);
            const size_t bytes = (t + side < tiles ? side : next - t) * m.blocks * m.block_bytes();
            run(m, tile + t, in, first + begin, out + begin * stride + t * TILE, stride, {bytes, group, groups});
        }
        t += side;
    }
}

// Vectors

void quantise(const float* x, size_t size, Inputs& in, size_t first_block, size_t token) {
    for (size_t block = first_block; size; block++) {
        const size_t count = size < BLOCK ? size : BLOCK;
        const Lanes a = count >= 16 ? Lanes::load(x) : load_some(x, count, 0);
        const Lanes b = count >= 32 ? Lanes::load(x + 16) : load_some(x + 16, count > 16 ? count - 16 : 0, 0);
        const float most = Lanes::largest(Lanes::max(Lanes::absolute(a), Lanes::absolute(b)));
        const Lanes inverse = Lanes::set(most > 0 ? 127.0f / most : 0.0f);
        const Lanes up = a * inverse + Lanes::set(ROUNDING), low = b * inverse + Lanes::set(ROUNDING);
        const size_t at = block * in.tokens + token;
        up.store_low_bytes(in.quants.data() + at * BLOCK);
        low.store_low_bytes(in.quants.data() + at * BLOCK + 16);
        // Whole numbers: their sum is exact. It is NaN where an input is NaN or infinite (0 * inf), and so is the scale.
        const float sum = Lanes::sum((up - Lanes::set(ROUNDING)) + (low - Lanes::set(ROUNDING)));
        in.sums[at] = sum == sum ? static_cast<int32_t>(sum) : 0;
        in.scales[at] = sum == sum ? most / 127.0f : sum;
        x += count;
        size -= count;
    }
}

void norm(const float* x, const float* weight, size_t size, float epsilon, float* out) {
    Lanes squares = Lanes::set(0);
    size_t i = 0;
    for (; i + 16 <= size; i += 16) squares = Lanes::fma(Lanes::load(x + i), Lanes::load(x + i), squares);
    if (i < size) {
        const Lanes rest = load_some(x + i, size - i, 0);
        squares = Lanes::fma(rest, rest, squares);
    }
    const float scale = 1.0f / std::sqrt(Lanes::sum(squares) / static_cast<float>(size) + epsilon);
    for (i = 0; i + 16 <= size; i += 16)
        (Lanes::load(x + i) * Lanes::set(scale) * Lanes::load(weight + i)).store(out + i);
    for (; i < size; i++) out[i] = x[i] * scale * weight[i];
}

// (a, b) -> (a cos - b sin, b cos + a sin), a and b the halves of the head (arXiv 2104.09864 as transformers has it).
void rotate(float* head, const float* cosines, const float* sines, size_t half) {
    size_t i = 0;
    for (; i + 16 <= half; i += 16) {
        const Lanes a = Lanes::load(head + i), b = Lanes::load(head + half + i);
        const Lanes c = Lanes::load(cosines + i), s = Lanes::load(sines + i);
        (a * c - b * s).store(head + i);
        (b * c + a * s).store(head + half + i);
    }
    for (; i < half; i++) {
        const float a = head[i], b = head[half + i];
        head[i] = a * cosines[i] - b * sines[i];
        head[half + i] = b * cosines[i] + a * sines[i];
    }
}

Lanes gated(Lanes x, Lanes up) { return x / (Lanes::set(1) + exponential(Lanes::set(0) - x)) * up; }

void gate(float* x, const float* up, size_t size) {
    size_t i = 0;
    for (; i + 16 <= size; i += 16) gated(Lanes::load(x + i), Lanes::load(up + i)).store(x + i);
    if (i < size) {
        float at[16];
        gated(load_some(x + i, size - i, 0), load_some(up + i, size - i, 0)).store(at);
        for (size_t j = 0; i + j < size; j++) x[i + j] = at[j];
    }
}

void to_halves(const float* x, size_t size, uint16_t* out) {
    size_t i = 0;
    for (; i + 16 <= size; i += 16) Lanes::load(x + i).store_half(out + i);
    if (i < size) {
        uint16_t at[16];
        load_some(x + i, size - i, 0).store_half(at);
        for (size_t j = 0; i + j < size; j++) out[i + j] = at[j];
    }
}

void exponentials(const float* x, size_t size, float* largest, float* sum) {
    Lanes most = Lanes::set(-INFINITY), total = Lanes::set(0);
    for (size_t i = 0; i < size; i += 16)
        most = Lanes::max(most, size - i < 16 ? load_some(x + i, size - i, -INFINITY) : Lanes::load(x + i));
    *largest = Lanes::largest(most);
    for (size_t i = 0; i + 16 <= size; i += 16)
        total = total + exponential(Lanes::load(x + i) - Lanes::set(*largest));
    *sum = Lanes::sum(total);
    if (const size_t rest = size % 16) {
        float at[16];
        exponential(load_some(x + size - rest, rest, 0) - Lanes::set(*largest)).store(at);
        for (size_t j = 0; j < rest; j++) *sum += at[j];
    }
}

// Attention

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

#define OUTRIDER_JOIN(a, b) a##b
#define OUTRIDER_NAME(set) OUTRIDER_JOIN(kernels_, set)
#define OUTRIDER_TEXT(set) #set
#define OUTRIDER_QUOTED(set) OUTRIDER_TEXT(set)

namespace outrider {
extern const Kernels OUTRIDER_NAME(OUTRIDER_SET);
const Kernels OUTRIDER_NAME(OUTRIDER_SET) = {
    OUTRIDER_QUOTED(OUTRIDER_SET), multiply, quantise, norm, rotate, gate, attend, to_halves, exponentials};
}  // namespace outrider
