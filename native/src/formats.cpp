#include "formats.h"

#include <cmath>
#include <stdexcept>

namespace outrider {

namespace {

constexpr size_t BLOCK_OF_K = 256;
constexpr Format FORMATS[] = {  // in the order of Kind
    {"q8_0", Kind::Q8, BLOCK, 34, 8},
    {"q4_0", Kind::Q4, BLOCK, 18, 4},
    {"q4_1", Kind::Q4M, BLOCK, 20, 4},
    {"q5_0", Kind::Q5, BLOCK, 22, 5},
    {"q5_1", Kind::Q5M, BLOCK, 24, 5},
    {"iq4_nl", Kind::IQ4, BLOCK, 18, 4},
    {"mxfp4", Kind::MX4, BLOCK, 17, 4},
    {"q2_k", Kind::Q2K, BLOCK_OF_K, 84, 4},
    {"q3_k", Kind::Q3K, BLOCK_OF_K, 110, 4},
    {"q4_k", Kind::Q4K, BLOCK_OF_K, 144, 4},
    {"q5_k", Kind::Q5K, BLOCK_OF_K, 176, 5},
    {"q6_k", Kind::Q6K, BLOCK_OF_K, 210, 6},
    {"iq4_xs", Kind::IQ4K, BLOCK_OF_K, 136, 4},
    {"f32", Kind::F32, 1, 4, 32},
    {"f16", Kind::F16, 1, 2, 16},
    {"bf16", Kind::BF16, 1, 2, 16},
};
constexpr uint16_t SIGN = 0x8000;

// 16 bytes of 4-bit numbers: the low halves are those of the first 16 inputs.
OUTRIDER_INLINE void read_digits(const uint8_t* from, Part& part) {
    for (size_t k = 0; k < 16; k++) {
        part.numbers[k] = from[k] & 15;
        part.numbers[k + 16] = from[k] >> 4;
    }
}

OUTRIDER_INLINE void read_fifth_bits(const uint8_t* from, Part& part) {
    for (size_t k = 0; k < BLOCK; k++) part.numbers[k] |= static_cast<uint8_t>((from[k / 8] >> k % 8 & 1) << 4);
}

// 32 bytes, of which bits from `shift` on belong to this block.
OUTRIDER_INLINE void read_bits(const uint8_t* from, int shift, int mask, Part& part, int above = 0) {
    for (size_t k = 0; k < BLOCK; k++) part.numbers[k] |= static_cast<uint8_t>((from[k] >> shift & mask) << above);
}

// Scale and minimum of block i of 8, of 6 bits each in 12 bytes.
OUTRIDER_INLINE void read_six_bits(const uint8_t* from, size_t i, Part& part) {
    const int scale = i < 4 ? from[i] & 63 : (from[i + 4] & 15) | from[i - 4] >> 6 << 4;
    const int minimum = i < 4 ? from[i + 4] & 63 : from[i + 4] >> 4 | from[i] >> 6 << 4;
    part.scales[0] = part.scales[1] = static_cast<uint8_t>(scale);
    part.minimums[0] = part.minimums[1] = static_cast<uint8_t>(minimum);
}

// Scale i of 16, of 6 bits in 12 bytes.
int scale_of_q3k(const uint8_t* from, size_t i) {
    const int low = i < 8 ? from[i] & 15 : from[i - 8] >> 4;
    return low | (from[8 + i % 4] >> 2 * (i / 4) & 3) << 4;
}

// Block i of the 8 of a larger one. Half of these 256 inputs share 32 or 64 bytes, block after block in higher bits.
OUTRIDER_INLINE void read_part_of_k(Kind kind, const uint8_t* at, size_t i, Part& part) {
    const size_t half = i / 4, quarter = i % 4;
    const int shift = static_cast<int>(2 * quarter);
    switch (kind) {
        case Kind::Q2K:
            read_bits(at + 16 + 32 * half, shift, 3, part);
            for (size_t g = 0; g < 2; g++) {
                part.scales[g] = at[2 * i + g] & 15;
                part.minimums[g] = at[2 * i + g] >> 4;
            }
            part.scale = read16(at + 80), part.minimum = read16(at + 82) ^ SIGN;
            break;
        case Kind::Q3K:
            read_bits(at + 32 + 32 * half, shift, 3, part);
            read_bits(at, static_cast<int>(i), 1, part, 2);
            for (size_t g = 0; g < 2; g++) part.scales[g] = static_cast<uint8_t>(scale_of_q3k(at + 96, 2 * i + g) + 96);
            part.scale = read16(at + 108);
            break;
        case Kind::Q4K:
        case Kind::Q5K:
            read_bits(at + (kind == Kind::Q4K ? 16 : 48) + 32 * (i / 2), i % 2 ? 4 : 0, 15, part);
            if (kind == Kind::Q5K) read_bits(at + 16, static_cast<int>(i), 1, part, 4);
            read_six_bits(at + 4, i, part);
            part.scale = read16(at), part.minimum = read16(at + 2) ^ SIGN;
            break;
        case Kind::IQ4K:
            read_digits(at + 8 + 16 * i, part);
            part.scales[0] = part.scales[1] =
                static_cast<uint8_t>(((at[4 + i / 2] >> 4 * (i % 2) & 15) | (at[2 + i / 4] >> shift & 3) << 4) + 96);
            part.scale = read16(at);
            break;
        default:  // Q6K
            read_bits(at + 64 * half + 32 * (quarter % 2), quarter < 2 ? 0 : 4, 15, part);
            read_bits(at + 128 + 32 * half, shift, 3, part, 4);
            for (size_t g = 0; g < 2; g++) part.scales[g] = at[192 + 2 * i + g] ^ 128;
            part.scale = read16(at + 208);
            break;
    }
}

OUTRIDER_INLINE Part part_at(Kind kind, const uint8_t* row, size_t block) {
    Part part;
    const size_t bytes = FORMATS[static_cast<size_t>(kind)].bytes;
    if (is_of_k(kind)) {
        read_part_of_k(kind, row + block / BLOCKS_OF_K * bytes, block % BLOCKS_OF_K, part);
        return part;
    }
    const uint8_t* at = row + block * bytes;
    part.scale = kind == Kind::MX4 ? at[0] : read16(at);
    if (has_minimums(kind)) part.minimum = read16(at + 2);
    if (kind == Kind::Q8)
        for (size_t k = 0; k < BLOCK; k++) part.numbers[k] = at[2 + k] ^ 128;
    else
        read_digits(at + bytes - BLOCK / 2, part);
    if (kind == Kind::Q5 || kind == Kind::Q5M) read_fifth_bits(at + bytes - BLOCK / 2 - 4, part);
    return part;
}

template <Kind kind>
void parts_of_kind(const uint8_t* row, size_t first, size_t count, Part* parts) {
    if (is_of_k(kind) && first % BLOCKS_OF_K == 0 && count == BLOCKS_OF_K) {
        const uint8_t* at = row + first / BLOCKS_OF_K * FORMATS[static_cast<size_t>(kind)].bytes;
#pragma GCC unroll 8
        for (size_t i = 0; i < BLOCKS_OF_K; i++) {  // unrolled, every shift is a constant
            parts[i] = Part{};
            read_part_of_k(kind, at, i, parts[i]);
        }
        return;
    }
    for (size_t i = 0; i < count; i++) parts[i] = part_at(kind, row, first + i);
}

// What is taken off a number.
int offset_of(Kind kind) {
    switch (kind) {
        case Kind::Q8: return 128;
        case Kind::Q4: return 8;
        case Kind::Q5: return 16;
        case Kind::Q3K: return 4;
        case Kind::Q6K: return 32;
        case Kind::IQ4:
        case Kind::IQ4K: return Uneven::OFFSET;
        case Kind::MX4: return Fp4::OFFSET;
        default: return 0;
    }
}

const uint8_t* levels_of(Kind kind) {
    if (kind == Kind::MX4) return Fp4::LEVELS;
    return kind == Kind::IQ4 || kind == Kind::IQ4K ? Uneven::LEVELS : nullptr;
}

}  // namespace

const Format& format_of(const std::string& name) {
    for (const Format& format : FORMATS)
        if (name == format.name) return format;
    throw std::invalid_argument("weights of type " + name + " are unknown");
}

const Format& format_of(Kind kind) { return FORMATS[static_cast<size_t>(kind)]; }

Part read_part(Kind kind, const uint8_t* row, size_t block) { return part_at(kind, row, block); }

void read_parts(Kind kind, const uint8_t* row, size_t first, size_t count, Part* parts) {
    switch (kind) {  // the compiler unrolls what is known of the kinds that most files consist of
        case Kind::Q8: return parts_of_kind<Kind::Q8>(row, first, count, parts);
        case Kind::Q4: return parts_of_kind<Kind::Q4>(row, first, count, parts);
        case Kind::Q4K: return parts_of_kind<Kind::Q4K>(row, first, count, parts);
        case Kind::Q5K: return parts_of_kind<Kind::Q5K>(row, first, count, parts);
        case Kind::Q6K: return parts_of_kind<Kind::Q6K>(row, first, count, parts);
        default:
            for (size_t i = 0; i < count; i++) parts[i] = part_at(kind, row, first + i);
    }
}

void values_of(const Part& part, Kind kind, float* out) {
    const int offset = offset_of(kind);
    for (size_t g = 0; g < 2; g++) {
        float scale = kind == Kind::MX4 ? std::ldexp(1.0f, part.scale - 128) : from_half(part.scale);
        float minimum = from_half(part.minimum);
        if (is_of_k(kind)) {
            scale *= static_cast<float>(part.scales[g] - (has_minimums(kind) ? 0 : 128));
            minimum *= part.minimums[g];
        }
        const uint8_t* numbers = part.numbers + 16 * g;
        float* to = out + 16 * g;
        const uint8_t* levels = levels_of(kind);
        for (size_t k = 0; k < 16; k++)
            to[k] = scale * static_cast<float>((levels ? levels[numbers[k]] : numbers[k]) - offset);
        for (size_t k = 0; has_minimums(kind) && k < 16; k++) to[k] += minimum;
    }
}

}  // namespace outrider
