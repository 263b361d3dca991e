// Packed weights of one linear, in the order in which the kernels read them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "pages.h"

// Kernels are compiled for several instruction sets: none of them may leave a copy of a shared function behind.
#define OUTRIDER_INLINE __attribute__((always_inline)) inline

namespace outrider {

constexpr size_t TILE = 16;   // outputs that a kernel computes side by side, one in each lane
constexpr size_t BLOCK = 32;  // inputs that share a scale, as in GGUF

enum class Kind { Q8, Q4, Q4M, Q5, Q5M, IQ4, MX4, Q2K, Q3K, Q4K, Q5K, Q6K, IQ4K, F32, F16, BF16 };

// What 4-bit numbers stand for, plus OFFSET: those of IQ4 and IQ4K (GGUF's IQ4_NL and IQ4_XS),
struct Uneven {
    static constexpr int OFFSET = 128;
    static constexpr uint8_t LEVELS[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};
};
// and those of MX4 (MXFP4), floats of a sign, two bits of exponent and one of fraction: halves, counted.
struct Fp4 {
    static constexpr int OFFSET = 12;
    static constexpr uint8_t LEVELS[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};
};

OUTRIDER_INLINE bool is_quantised(Kind kind) { return kind < Kind::F32; }
OUTRIDER_INLINE bool is_of_k(Kind kind) { return kind >= Kind::Q2K && kind <= Kind::IQ4K; }
OUTRIDER_INLINE bool has_minimums(Kind kind) {
    return kind == Kind::Q4M || kind == Kind::Q5M || kind == Kind::Q2K || kind == Kind::Q4K || kind == Kind::Q5K;
}
// Scales for 16 inputs, and not for 32.
OUTRIDER_INLINE bool has_half_blocks(Kind kind) {
    return kind == Kind::Q2K || kind == Kind::Q3K || kind == Kind::Q6K;
}

constexpr size_t BLOCKS_OF_K = 8;  // blocks that share the float16 scales of the K formats

// The layout is [tile][block][inputs][16 outputs]. Lanes are outputs, so every kernel adds the inputs of an output in
// the same order. Outputs and inputs are padded with zeros to whole tiles and blocks.
//   Q8: for each 4 inputs 16 x 4 bytes, the number + 128.
//   Q4, IQ4, MX4: byte [i][output][j] holds input 4 i + j in its low half and input 16 + 4 i + j in its high half, from 0 on.
//   Q5: the same of the low 4 bits; behind them bit i of byte [output][j] is the fifth of input 4 i + j, and bit 4 + i
//       that of input 16 + 4 i + j.
//   Q6: the same of the low 4 bits; behind them two times 64 bytes, of inputs 4 i + j and of inputs 16 + 4 i + j: bits
//       (2 i + 4) % 8 and the one above it of byte [output][j] are the fifth and sixth.
//   F32, F16, BF16: 16 numbers for each input.
// Scales lie apart, [tile][block], each of 16 outputs:
//   MX4: a byte, of which 2^(byte - 128) is the scale.
//   Q8, Q4, Q5, IQ4: float16. Q4M and Q5M (GGUF's Q4_1 and Q5_1): behind it a minimum to be added.
//   K: for each 8 blocks a float16 scale, perhaps one of minimums; then for each block bytes, by which these are
//      multiplied: Q4K and Q5K scale, minimum; IQ4K scale + 128; Q3K and Q6K scale + 128 of the first and of the second 16 inputs; Q2K
//      two scales, two minimums.
struct Matrix {
    Kind kind = Kind::Q8;
    size_t outputs = 0, inputs = 0, tiles = 0, blocks = 0;
    Pages memory;  // quants, then scales
    size_t scales_at = 0;

    OUTRIDER_INLINE bool quantised() const { return is_quantised(kind); }
    // Bytes of the numbers of one tile and block.
    OUTRIDER_INLINE size_t block_bytes() const {
        switch (kind) {
            case Kind::Q8: return TILE * BLOCK;
            case Kind::Q5:
            case Kind::Q5M:
            case Kind::Q5K: return TILE * BLOCK * 5 / 8;
            case Kind::Q6K: return TILE * BLOCK * 6 / 8;
            case Kind::F32: return TILE * BLOCK * 4;
            case Kind::F16:
            case Kind::BF16: return TILE * BLOCK * 2;
            default: return TILE * BLOCK / 2;
        }
    }
    // Of one tile: the float16 numbers that one block has, or of the K formats eight of them; the bytes of a block.
    OUTRIDER_INLINE size_t half_bytes() const { return kind == Kind::MX4 ? TILE : (has_minimums(kind) ? 2 : 1) * TILE * 2; }
    OUTRIDER_INLINE size_t byte_bytes() const {
        return is_of_k(kind) ? (has_minimums(kind) ? 2 : 1) * (has_half_blocks(kind) ? 2 : 1) * TILE : 0;
    }
    // Where the scales of a block lie within those of its tile: the float16 numbers, and the bytes.
    OUTRIDER_INLINE size_t halves_at(size_t block) const {
        return is_of_k(kind) ? block / BLOCKS_OF_K * (half_bytes() + BLOCKS_OF_K * byte_bytes()) : block * half_bytes();
    }
    OUTRIDER_INLINE size_t bytes_at(size_t block) const {
        return halves_at(block) + half_bytes() + block % BLOCKS_OF_K * byte_bytes();
    }
    // Bytes of the scales of one tile.
    OUTRIDER_INLINE size_t scale_bytes() const { return halves_at(blocks); }
    OUTRIDER_INLINE const uint8_t* quants(size_t tile) const { return memory.data() + tile * blocks * block_bytes(); }
    OUTRIDER_INLINE uint8_t* quants(size_t tile) { return memory.data() + tile * blocks * block_bytes(); }
    OUTRIDER_INLINE const uint8_t* scales(size_t tile) const { return memory.data() + scales_at + tile * scale_bytes(); }
    OUTRIDER_INLINE uint8_t* scales(size_t tile) { return memory.data() + scales_at + tile * scale_bytes(); }
};

// The inputs of a linear: int8 with a scale for each block, or float32. Both are [block][token][32].
struct Inputs {
    struct alignas(64) Line {  // of the cache: no token's block lies in two of them
        int8_t numbers[64];
    };
    size_t tokens = 0, blocks = 0;
    bool halved = false;  // whether `halves` are made
    std::vector<Line> lines;
    std::vector<float> scales;   // [block][token]; NaN where an input is no finite number
    std::vector<int32_t> sums;   // [block][token], of the quants
    // [block][token][2 halves][2]: of the inputs 4 k and 4 k + 1 of a half, and of the others; where a matrix needs them.
    std::vector<int16_t> halves;
    std::vector<float> shifts;   // [block][token], scale times sum: what a weight's minimum is multiplied with
    std::vector<float> plain;

    // What the matrices need that these inputs are multiplied with.
    struct Needs {
        bool quants = false, halves = false, floats = false;

        Needs& operator|=(const Matrix& m) {
            (m.quantised() ? quants : floats) = true;
            halves |= has_half_blocks(m.kind);
            return *this;
        }
    };

    void resize(size_t new_tokens, size_t inputs, Needs needs) {
        const bool quantised = needs.quants, floats = needs.floats;
        tokens = new_tokens;
        blocks = (inputs + BLOCK - 1) / BLOCK;
        halved = needs.halves;
        if (quantised && scales.size() < tokens * blocks) {
            lines.resize((tokens * blocks + 1) / 2);
            scales.resize(tokens * blocks);
            sums.resize(tokens * blocks);
            shifts.resize(tokens * blocks);
        }
        if (halved && halves.size() < 4 * tokens * blocks) halves.resize(4 * tokens * blocks);
        if (floats && plain.size() < tokens * blocks * BLOCK) plain.resize(tokens * blocks * BLOCK);
    }
    // The numbers of the block of a token, of which `at` is block * tokens + token.
    OUTRIDER_INLINE const int8_t* quants(size_t at) const { return lines[at / 2].numbers + at % 2 * BLOCK; }
    OUTRIDER_INLINE int8_t* quants(size_t at) { return lines[at / 2].numbers + at % 2 * BLOCK; }
};

// Half precision in plain C++: exact one way, rounded to the nearest even the other, as processors do it.
OUTRIDER_INLINE float from_half(uint16_t half) {
    const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16, rest = half & 0x7fff;
    uint32_t bits;
    if (rest >= 0x7c00) {
        bits = sign | 0x7f800000 | (rest & 0x3ff) << 13;
        if (rest > 0x7c00) bits |= 0x400000;  // a quiet NaN
    } else if (rest >= 0x400) {
        bits = sign | ((rest << 13) + (112u << 23));
    } else {
        float small = static_cast<float>(rest) * 5.9604644775390625e-8f;  // 2^-24
        std::memcpy(&bits, &small, 4);
        bits |= sign;
    }
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

OUTRIDER_INLINE uint16_t to_half(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
    bits &= 0x7fffffff;
    if (bits > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00 | (bits >> 13 & 0x3ff));
    if (bits >= 0x47800000) return static_cast<uint16_t>(sign | 0x7c00);  // 65536 and more
    if (bits < 0x38800000) {                       // below 2^-14: adding 0.5 leaves the number of 2^-24 in the low bits
        float magnitude;
        std::memcpy(&magnitude, &bits, 4);
        magnitude += 0.5f;
        std::memcpy(&bits, &magnitude, 4);
        return static_cast<uint16_t>(sign | (bits - 0x3f000000));
    }
    return static_cast<uint16_t>(sign | (((bits + 0xfff + (bits >> 13 & 1)) >> 13) - 0x1c000));
}

OUTRIDER_INLINE float from_bfloat(uint16_t half) {
    const uint32_t bits = static_cast<uint32_t>(half) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

}  // namespace outrider
