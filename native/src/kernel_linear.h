// Products of packed weights and inputs.
#pragma once

#include "kernel_lanes.h"

namespace {

// The scales of a tile, block after block, for formats whose blocks have float16 scales of their own.
template <bool HAS_MINIMUM>
struct Scales {
    static constexpr bool MINIMUM = HAS_MINIMUM;
    const uint8_t* at;

    void next(Lanes* scale, Lanes* minimum) {
        scale[0] = Lanes::load_half(reinterpret_cast<const uint16_t*>(at));
        if (MINIMUM) minimum[0] = Lanes::load_half(reinterpret_cast<const uint16_t*>(at) + TILE);
        at += (MINIMUM ? 2 : 1) * TILE * 2;
    }
};

// The same for powers of 2, of which a byte has the exponent. 0 is 0, and not 2^-128.
struct ScalesOf2 {
    static constexpr bool MINIMUM = false;
    const uint8_t* at;

    void next(Lanes* scale, Lanes*) {
        scale[0] = Lanes::power(Lanes::load_bytes(at) + Lanes::set(ROUNDING - 127)) * Lanes::set(0.5f);
        at += TILE;
    }
};

// The same for the K formats: a float16 scale of 8 blocks times a whole number, which float32 holds exactly.
template <bool HAS_MINIMUM, int GROUPS>
struct ScalesOfK {
    static constexpr bool MINIMUM = HAS_MINIMUM;
    static constexpr size_t HALVES = (MINIMUM ? 2 : 1) * TILE * 2, BYTES = (MINIMUM ? 2 : 1) * GROUPS * TILE;
    const uint8_t* at;
    size_t block = 0;

    void next(Lanes* scale, Lanes* minimum) {
        const uint16_t* halves = reinterpret_cast<const uint16_t*>(at);
        const uint8_t* bytes = at + HALVES + block * BYTES;
        for (int g = 0; g < GROUPS; g++) {
            const Lanes number = Lanes::load_bytes(bytes + g * TILE);
            scale[g] = (MINIMUM ? number : number - Lanes::set(128)) * Lanes::load_half(halves);
            if (MINIMUM) minimum[g] = Lanes::load_bytes(bytes + (GROUPS + g) * TILE) * Lanes::load_half(halves + TILE);
        }
        if (++block == outrider::BLOCKS_OF_K) block = 0, at += HALVES + outrider::BLOCKS_OF_K * BYTES;
    }
};

// Each format: the numbers of a block, which are summed as they stand in GROUPS groups, and their scales.
template <int BITS, int OFFSET, class Scaled>
struct Blocks {
    static constexpr int GROUPS = 1;
    using ScalesOf = Scaled;
    template <int T, int R>
    static void block(const uint8_t* const* w, const Inputs& in, size_t at, Lanes (*out)[T][R]) {
        const int8_t* x = in.quants(at);
        const int32_t* sums = in.sums.data() + at;
        if constexpr (BITS == 8) Products::q8<T, R>(w, x, sums, out[0]);
        if constexpr (BITS == 5) Products::q5<OFFSET, T, R>(w, x, sums, out[0]);
        if constexpr (BITS == 4) Products::q4<OFFSET, T, R>(w, x, sums, out[0]);
    }
    static float shift(const Inputs& in, size_t at, int) { return in.shifts[at]; }
};

template <class Of, class Scaled>
struct Levels : Blocks<4, 0, Scaled> {
    template <int T, int R>
    static void block(const uint8_t* const* w, const Inputs& in, size_t at, Lanes (*out)[T][R]) {
        Products::levels<Of, T, R>(w, in.quants(at), in.sums.data() + at, out[0]);
    }
};

template <int BITS, int OFFSET, class Scaled>
struct HalfBlocks {
    static constexpr int GROUPS = 2;
    using ScalesOf = Scaled;
    template <int T, int R>
    static void block(const uint8_t* const* w, const Inputs& in, size_t at, Lanes (*out)[T][R]) {
        Products::halves<BITS, OFFSET, T, R>(w, in.quants(at), in.halves.data() + 4 * at, out[0], out[1]);
    }
    static float shift(const Inputs& in, size_t at, int group) {
        const int16_t* pairs = in.halves.data() + 4 * at + 2 * static_cast<size_t>(group);
        return in.scales[at] * static_cast<float>(pairs[0] + pairs[1]);
    }
};

// Which weights to fetch while others are multiplied: those so many bytes ahead, of every block whose number has this
// rest, so that each group of tokens fetches its share. The reading then costs no time of its own.
struct Ahead {
    size_t bytes, group, groups;
};

// T tiles times R tokens. For each token and output: for each block in turn, for each group of inputs that share a
// scale, the exact sum of products times the input's scale, times the weight's scale, added by one fused operation;
// then the weights' minimums, if there are any.
template <class Format, int T, int R>
void quantised_tile(const Matrix& m, size_t tile, const Inputs& in, size_t token, float* out, size_t stride,
                    Ahead ahead) {
    constexpr int GROUPS = Format::GROUPS;
    constexpr bool MINIMUM = Format::ScalesOf::MINIMUM;
    Lanes total[T][R];
    const uint8_t* weights[T];
    typename Format::ScalesOf scales[T];
    for (int t = 0; t < T; t++) {
        weights[t] = m.quants(tile + t);
        scales[t] = {m.scales(tile + t)};
        for (int r = 0; r < R; r++) total[t][r] = Lanes::set(0);
    }
    const size_t bytes = m.block_bytes();
    for (size_t block = 0; block < m.blocks; block++) {
        const size_t at = block * in.tokens + token;
        if (ahead.bytes && block % ahead.groups == ahead.group)
            for (int t = 0; t < T; t++)
                for (size_t line = 0; line < bytes; line += 64) __builtin_prefetch(weights[t] + ahead.bytes + line, 0, 2);
        Lanes sums[GROUPS][T][R];
        Format::template block<T, R>(weights, in, at, sums);
        for (int t = 0; t < T; t++) {
            Lanes scale[GROUPS], minimum[GROUPS];
            scales[t].next(scale, minimum);
            for (int g = 0; g < GROUPS; g++)
                for (int r = 0; r < R; r++)
                    total[t][r] = Lanes::fma(sums[g][t][r] * Lanes::set(in.scales[at + r]), scale[g], total[t][r]);
            for (int g = 0; MINIMUM && g < GROUPS; g++)
                for (int r = 0; r < R; r++)
                    total[t][r] = Lanes::fma(Lanes::set(Format::shift(in, at + r, g)), minimum[g], total[t][r]);
            weights[t] += bytes;
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
        case Kind::Q8: return quantised_tile<Blocks<8, 128, Scales<false>>, T, R>;
        case Kind::Q4: return quantised_tile<Blocks<4, 8, Scales<false>>, T, R>;
        case Kind::Q4M: return quantised_tile<Blocks<4, 0, Scales<true>>, T, R>;
        case Kind::Q5: return quantised_tile<Blocks<5, 16, Scales<false>>, T, R>;
        case Kind::Q5M: return quantised_tile<Blocks<5, 0, Scales<true>>, T, R>;
        case Kind::Q2K: return quantised_tile<HalfBlocks<4, 0, ScalesOfK<true, 2>>, T, R>;
        case Kind::Q3K: return quantised_tile<HalfBlocks<4, 4, ScalesOfK<false, 2>>, T, R>;
        case Kind::Q4K: return quantised_tile<Blocks<4, 0, ScalesOfK<true, 1>>, T, R>;
        case Kind::Q5K: return quantised_tile<Blocks<5, 0, ScalesOfK<true, 1>>, T, R>;
        case Kind::Q6K: return quantised_tile<HalfBlocks<6, 32, ScalesOfK<false, 2>>, T, R>;
        case Kind::IQ4: return quantised_tile<Levels<outrider::Uneven, Scales<false>>, T, R>;
        case Kind::IQ4K: return quantised_tile<Levels<outrider::Uneven, ScalesOfK<false, 1>>, T, R>;
        case Kind::MX4: return quantised_tile<Levels<outrider::Fp4, ScalesOf2>, T, R>;
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

}  // namespace

#if defined(OUTRIDER_AMX)
#include "kernel_amx.h"
#endif

namespace {

void multiply(const Matrix& m, size_t tile, size_t tiles, size_t next, const Inputs& in, size_t first, size_t count,
              float* out, size_t stride) {
#if defined(OUTRIDER_AMX)
    if (m.kind == Kind::Q4M && count >= AMX_FEWEST)
        return multiply_by_amx(m, tile, tiles, next, in, first, count, out, stride);
#endif
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

}  // namespace
