#include "pack.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <stdexcept>

#include "formats.h"
#include "pool.h"

namespace outrider {

namespace {

constexpr size_t MOST_NUMBERS = size_t(1) << 40;

// A number that is not quantised.
float plain_at(Kind kind, const uint8_t* at) {
    if (kind != Kind::F32) return kind == Kind::F16 ? from_half(read16(at)) : from_bfloat(read16(at));
    float number;
    std::memcpy(&number, at, 4);
    return number;
}

// One row as float32, of whole blocks; beyond the inputs it is 0.
void read_row(const uint8_t* row, Kind kind, size_t inputs, float* out) {
    for (size_t block = 0; is_quantised(kind) && block < inputs / BLOCK; block++)
        values_of(read_part(kind, row, block), kind, out + block * BLOCK);
    const size_t size = format_of(kind).bytes;
    for (size_t i = 0; !is_quantised(kind) && i < inputs; i++) out[i] = plain_at(kind, row + size * i);
}

// Where the fifth and sixth bits of the numbers i to i + 3 lie, of 5 or 6 bits.
struct Above {
    size_t plane;  // of 64 bytes, behind the low bits
    int shift;     // within their bytes
};

OUTRIDER_INLINE Above above_of(size_t bits, size_t i) {
    const size_t half = i / 16, k = i % 16 / 4;
    return bits == 5 ? Above{0, static_cast<int>(4 * half + k)} : Above{half, static_cast<int>((2 * k + 4) % 8)};
}

// The numbers of one block of an output, at their places; see Matrix.
OUTRIDER_INLINE void put_numbers(Kind kind, size_t bits, uint8_t* to, const uint8_t* numbers) {
    if (kind == Kind::Q8) {
        for (size_t k = 0; k < BLOCK; k += 4) std::memcpy(to + k * TILE, numbers + k, 4);
        return;
    }
    uint8_t both[BLOCK / 2];
    for (size_t k = 0; k < BLOCK / 2; k++) both[k] = static_cast<uint8_t>((numbers[k] & 15) | numbers[k + 16] << 4);
    for (size_t k = 0; k < BLOCK / 2; k += 4) std::memcpy(to + k * TILE, both + k, 4);
    if (bits == 4) return;
    uint32_t planes[2] = {};  // four bytes each: none of a shift's bits leaves its byte
    for (size_t i = 0; i < BLOCK; i += 4) {
        const Above above = above_of(bits, i);
        uint32_t four;
        std::memcpy(&four, numbers + i, 4);
        planes[above.plane] |= (four >> 4 & 0x0f0f0f0f) << above.shift;
    }
    for (size_t plane = 0; plane < (bits == 5 ? 1 : 2); plane++) std::memcpy(to + 256 + 64 * plane, &planes[plane], 4);
}

void get_numbers(Kind kind, const uint8_t* from, uint8_t* numbers) {
    if (kind == Kind::Q8) {
        for (size_t k = 0; k < BLOCK; k += 4) std::memcpy(numbers + k, from + k * TILE, 4);
        return;
    }
    uint8_t both[BLOCK / 2];
    for (size_t k = 0; k < BLOCK / 2; k += 4) std::memcpy(both + k, from + k * TILE, 4);
    for (size_t k = 0; k < BLOCK / 2; k++) numbers[k] = both[k] & 15, numbers[k + BLOCK / 2] = both[k] >> 4;
    const size_t bits = format_of(kind).bits;
    for (size_t i = 0; bits > 4 && i < BLOCK; i += 4) {
        const Above above = above_of(bits, i);
        uint32_t four, plane;
        std::memcpy(&four, numbers + i, 4);
        std::memcpy(&plane, from + 256 + 64 * above.plane, 4);
        four |= (plane >> above.shift & (bits == 5 ? 0x01010101 : 0x03030303)) << 4;
        std::memcpy(numbers + i, &four, 4);
    }
}

// Calls f(number of the part, of the memory) for all scales of a part and their places.
template <class Bytes, class PartOf, class F>
OUTRIDER_INLINE void each_scale(const Matrix& m, Kind kind, Bytes* scales, size_t lane, size_t block, PartOf& part, F f) {
    Bytes* halves = scales + m.halves_at(block) + 2 * lane;
    Bytes* bytes = scales + m.bytes_at(block) + lane;
    if (kind == Kind::MX4) return f(&part.scale, scales + m.halves_at(block) + lane, 1);
    f(&part.scale, halves, 2);
    if (has_minimums(kind)) f(&part.minimum, halves + 2 * TILE, 2);
    if (!is_of_k(kind)) return;
    const size_t groups = has_half_blocks(kind) ? 2 : 1;
    for (size_t g = 0; g < groups; g++) {
        f(&part.scales[g], bytes + g * TILE, 1);
        if (has_minimums(kind)) f(&part.minimums[g], bytes + (groups + g) * TILE, 1);
    }
}

OUTRIDER_INLINE void put_as(Kind kind, size_t bits, Matrix& m, size_t output, size_t block, const Part& part) {
    const size_t tile = output / TILE, lane = output % TILE;
    put_numbers(kind, bits, m.quants(tile) + block * m.block_bytes() + lane * 4, part.numbers);
    each_scale(m, kind, m.scales(tile), lane, block, part,
               [](const void* of_part, uint8_t* at, size_t bytes) { std::memcpy(at, of_part, bytes); });
}

void put(Matrix& m, size_t output, size_t block, const Part& part) {
    put_as(m.kind, format_of(m.kind).bits, m, output, block, part);
}

Part part_of(const Matrix& m, size_t output, size_t block) {
    const size_t tile = output / TILE, lane = output % TILE;
    Part part;
    get_numbers(m.kind, m.quants(tile) + block * m.block_bytes() + lane * 4, part.numbers);
    each_scale(m, m.kind, m.scales(tile), lane, block, part,
               [](void* of_part, const uint8_t* at, size_t bytes) { std::memcpy(of_part, at, bytes); });
    if (!has_half_blocks(m.kind)) part.scales[1] = part.scales[0], part.minimums[1] = part.minimums[0];
    return part;
}

// A block with a NaN or an infinity becomes NaN, so that the passes that read it say so: a digit holds neither.
constexpr uint16_t NOT_A_NUMBER = 0x7e00;

bool finite(const float* x) {
    bool all = true;
    for (size_t k = 0; k < BLOCK; k++) all &= std::isfinite(x[k]);
    return all;
}

// As ggml's quantize_row_q8_0_ref.
Part quantised_q8(const float* x) {
    Part part;
    float most = 0;
    for (size_t k = 0; k < BLOCK; k++) most = std::max(most, std::fabs(x[k]));
    const float scale = most / 127, inverse = scale > 0 ? 1 / scale : 0;
    for (size_t k = 0; k < BLOCK; k++)
        part.numbers[k] = static_cast<uint8_t>(128 + static_cast<int>(std::round(x[k] * inverse)));
    part.scale = to_half(scale);
    return part;
}

// As ggml's quantize_row_q4_0_ref: the number of largest magnitude becomes -8.
Part quantised_q4(const float* x) {
    Part part;
    float most = 0;
    for (size_t k = 0; k < BLOCK; k++)
        if (std::fabs(x[k]) > std::fabs(most)) most = x[k];
    const float scale = most / -8, inverse = scale != 0 ? 1 / scale : 0;
    for (size_t k = 0; k < BLOCK; k++)
        part.numbers[k] = static_cast<uint8_t>(std::min(15.0f, std::floor(x[k] * inverse + 8.5f)));
    part.scale = to_half(scale);
    return part;
}

Part quantised(Kind kind, const float* x) {
    if (finite(x)) return kind == Kind::Q8 ? quantised_q8(x) : quantised_q4(x);
    Part part;
    part.scale = NOT_A_NUMBER;
    return part;
}

uint16_t to_bfloat(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if (value != value) return static_cast<uint16_t>(bits >> 16 | 0x40);
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

void put_plain(Matrix& m, size_t output, const uint8_t* row, Kind kind, const float* x, size_t inputs) {
    const size_t lane = output % TILE, size = m.kind == Kind::F32 ? 4 : 2;
    uint8_t* to = m.quants(output / TILE) + lane * size;
    for (size_t i = 0; i < inputs; i++, to += TILE * size) {
        const uint16_t half = m.kind == Kind::F32 ? 0 : kind == m.kind ? read16(row + 2 * i) : to_bfloat(x[i]);
        std::memcpy(to, m.kind == Kind::F32 ? static_cast<const void*>(x + i) : &half, size);
    }
}

// Rows of a tile that keep their kind, eight blocks of all rows at a time: what is written stands side by side.
template <class PutAs>
void put_tile(Matrix& m, size_t tile, const uint8_t* const* rows, size_t count, PutAs put_one) {
    Part parts[TILE][BLOCKS_OF_K];
    for (size_t first = 0; first < m.blocks; first += BLOCKS_OF_K) {
        const size_t some = std::min(BLOCKS_OF_K, m.blocks - first);
        for (size_t i = 0; i < count; i++) read_parts(m.kind, rows[i], first, some, parts[i]);
        for (size_t k = 0; k < some; k++)
            for (size_t i = 0; i < count; i++) put_one(tile * TILE + i, first + k, parts[i][k]);
    }
}

void keep_tile(Matrix& m, size_t tile, const uint8_t* const* rows, size_t count) {
    using Of = const Part&;
    if (m.kind == Kind::Q4K)
        put_tile(m, tile, rows, count, [&](size_t o, size_t b, Of part) { put_as(Kind::Q4K, 4, m, o, b, part); });
    else if (m.kind == Kind::Q6K)
        put_tile(m, tile, rows, count, [&](size_t o, size_t b, Of part) { put_as(Kind::Q6K, 6, m, o, b, part); });
    else
        put_tile(m, tile, rows, count, [&](size_t o, size_t b, Of part) { put(m, o, b, part); });
}

void pack_row(Matrix& m, size_t output, const uint8_t* row, Kind kind) {
    std::vector<float> x(m.blocks * BLOCK, 0.0f);
    read_row(row, kind, m.inputs, x.data());
    if (!m.quantised()) return put_plain(m, output, row, kind, x.data(), m.inputs);
    for (size_t block = 0; block < m.blocks; block++) put(m, output, block, quantised(m.kind, x.data() + block * BLOCK));
}

// Of a row of MX4. The kernels take the least scale for 0, as it is for a block of zeros; the largest is no number.
bool has_usual_scales(const uint8_t* row, size_t blocks) {
    for (size_t block = 0; block < blocks; block++, row += 17) {
        if (row[0] == 255) return false;
        for (size_t k = 1; row[0] == 0 && k < 17; k++)
            if (row[k] & 0x77) return false;
    }
    return true;
}

}  // namespace

Matrix pack(const uint8_t* data, size_t bytes, const std::string& source, const std::string& target, size_t outputs,
            size_t inputs, const int32_t* order, size_t threads) {
    const Format& format = format_of(source);
    const Kind kind = format.kind;
    if (!outputs || !inputs || outputs > MOST_NUMBERS / inputs)
        throw std::invalid_argument("weights of " + std::to_string(outputs) + " times " + std::to_string(inputs));
    if (inputs % format.inputs)
        throw std::invalid_argument(std::to_string(inputs) + " inputs of " + source + " are no whole blocks of " +
                                    std::to_string(format.inputs));
    const size_t row = inputs / format.inputs * format.bytes;
    if (bytes != row * outputs)
        throw std::invalid_argument("weights have " + std::to_string(bytes) + " bytes and need " +
                                    std::to_string(row * outputs));
    for (size_t i = 0; order && i < outputs; i++)
        if (order[i] < 0 || static_cast<size_t>(order[i]) >= outputs)
            throw std::invalid_argument("an order of rows names row " + std::to_string(order[i]));
    Matrix m;
    m.kind = target == "same" ? kind : format_of(target).kind;
    const bool made = m.kind == Kind::Q8 || m.kind == Kind::Q4 || m.kind == Kind::F32 || m.kind == Kind::BF16;
    if (m.kind != kind && !made)
        throw std::invalid_argument("weights of type " + source + " are not converted to " + target);
    m.outputs = outputs;
    m.inputs = inputs;
    m.tiles = (outputs + TILE - 1) / TILE;
    m.blocks = (inputs + BLOCK - 1) / BLOCK;
    std::atomic<bool> scaled{true};
    const size_t quants = m.tiles * m.blocks * m.block_bytes();
    m.memory = Pages(quants + (m.quantised() ? m.tiles * m.scale_bytes() : 0));
    m.scales_at = quants;
    Pool::shared().run(m.tiles, threads, [&](size_t tile, size_t) {
        const uint8_t* rows[TILE];
        const size_t first = tile * TILE, count = std::min(TILE, outputs - first);
        for (size_t i = 0; i < count; i++) rows[i] = data + (order ? order[first + i] : first + i) * row;
        for (size_t i = 0; kind == Kind::MX4 && i < count; i++)
            if (!has_usual_scales(rows[i], m.blocks)) scaled = false;
        if (kind == m.kind && m.quantised()) return keep_tile(m, tile, rows, count);
        for (size_t i = 0; i < count; i++) pack_row(m, first + i, rows[i], kind);
    });
    if (!scaled) throw std::invalid_argument("a scale of mxfp4 is 2^-127 or no number");
    return m;
}

void unpack_row(const Matrix& m, size_t output, float* out) {
    for (size_t block = 0; m.quantised() && block < m.blocks; block++) {
        float values[BLOCK];
        values_of(part_of(m, output, block), m.kind, values);
        std::copy_n(values, std::min(BLOCK, m.inputs - block * BLOCK), out + block * BLOCK);
    }
    const size_t size = format_of(m.kind).bytes;
    const uint8_t* number = m.quants(output / TILE) + output % TILE * size;
    for (size_t i = 0; !m.quantised() && i < m.inputs; i++, number += TILE * size) out[i] = plain_at(m.kind, number);
}

}  // namespace outrider
