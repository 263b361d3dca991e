#include "pack.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "pool.h"

namespace outrider {

namespace {

// Of a block in GGUF: its scale, perhaps a minimum, then numbers.
constexpr size_t Q8_BYTES = 2 + BLOCK, Q4_BYTES = 2 + BLOCK / 2, Q4M_BYTES = 4 + BLOCK / 2;
constexpr size_t MOST_NUMBERS = size_t(1) << 40;

Kind kind_of(const std::string& name) {
    if (name == "q8_0") return Kind::Q8;
    if (name == "q4_0") return Kind::Q4;
    if (name == "q4_1") return Kind::Q4M;
    if (name == "f32") return Kind::F32;
    if (name == "f16") return Kind::F16;
    if (name == "bf16") return Kind::BF16;
    throw std::invalid_argument("weights of type " + name + " are unknown");
}

uint16_t read16(const uint8_t* at) {
    uint16_t value;
    std::memcpy(&value, at, 2);
    return value;
}

// One row as float32.
void read_row(const uint8_t* row, Kind kind, size_t inputs, float* out) {
    for (size_t i = 0; i < inputs; i++) {
        switch (kind) {
            case Kind::F32: std::memcpy(out + i, row + 4 * i, 4); break;
            case Kind::F16: out[i] = from_half(read16(row + 2 * i)); break;
            case Kind::BF16: out[i] = from_bfloat(read16(row + 2 * i)); break;
            case Kind::Q8: {
                const uint8_t* block = row + i / BLOCK * Q8_BYTES;
                out[i] = from_half(read16(block)) * static_cast<int8_t>(block[2 + i % BLOCK]);
                break;
            }
            case Kind::Q4: {
                const uint8_t* block = row + i / BLOCK * Q4_BYTES;
                const int both = block[2 + i % 16];
                out[i] = from_half(read16(block)) * ((i % BLOCK < 16 ? both & 15 : both >> 4) - 8);
                break;
            }
            case Kind::Q4M: {
                const uint8_t* block = row + i / BLOCK * Q4M_BYTES;
                const int both = block[4 + i % 16];
                out[i] = from_half(read16(block)) * (i % BLOCK < 16 ? both & 15 : both >> 4) +
                         from_half(read16(block + 2));
                break;
            }
        }
    }
}

// The numbers of one block of an output, at their places.
void put_q8(Matrix& m, size_t output, size_t block, uint16_t scale, const int8_t* numbers) {
    const size_t tile = output / TILE, lane = output % TILE;
    uint8_t* to = m.quants(tile) + block * m.block_bytes() + lane * 4;
    for (size_t k = 0; k < BLOCK; k += 4) {  // four bytes at once, and plus 128 is another highest bit
        uint32_t four;
        std::memcpy(&four, numbers + k, 4);
        four ^= 0x80808080;
        std::memcpy(to + k * 16, &four, 4);
    }
    m.scales(tile)[block * m.block_scales() + lane] = scale;
}

void put_q4(Matrix& m, size_t output, size_t block, uint16_t scale, const uint8_t* halves) {
    const size_t tile = output / TILE, lane = output % TILE;
    uint8_t* to = m.quants(tile) + block * m.block_bytes() + lane * 4;
    for (size_t k = 0; k < BLOCK / 2; k += 4) std::memcpy(to + k * 16, halves + k, 4);
    m.scales(tile)[block * m.block_scales() + lane] = scale;
}

// A block with a NaN or an infinity becomes NaN, so that the passes that read it say so: a digit holds neither.
constexpr uint16_t NOT_A_NUMBER = 0x7e00;

bool finite(const float* x) {
    bool all = true;
    for (size_t k = 0; k < BLOCK; k++) all &= std::isfinite(x[k]);
    return all;
}

// As ggml's quantize_row_q8_0_ref.
void quantise_q8(Matrix& m, size_t output, size_t block, const float* x) {
    if (!finite(x)) {
        const int8_t none[BLOCK] = {};
        return put_q8(m, output, block, NOT_A_NUMBER, none);
    }
    float most = 0;
    for (size_t k = 0; k < BLOCK; k++) most = std::max(most, std::fabs(x[k]));
    const float scale = most / 127, inverse = scale > 0 ? 1 / scale : 0;
    int8_t numbers[BLOCK];
    for (size_t k = 0; k < BLOCK; k++) numbers[k] = static_cast<int8_t>(std::round(x[k] * inverse));
    put_q8(m, output, block, to_half(scale), numbers);
}

// As ggml's quantize_row_q4_0_ref: the number of largest magnitude becomes -8.
void quantise_q4(Matrix& m, size_t output, size_t block, const float* x) {
    if (!finite(x)) {
        const uint8_t none[BLOCK / 2] = {};
        return put_q4(m, output, block, NOT_A_NUMBER, none);
    }
    float most = 0;
    for (size_t k = 0; k < BLOCK; k++)
        if (std::fabs(x[k]) > std::fabs(most)) most = x[k];
    const float scale = most / -8, inverse = scale != 0 ? 1 / scale : 0;
    uint8_t halves[BLOCK / 2];
    auto digit = [&](float value) { return static_cast<int>(std::min(15.0f, std::floor(value * inverse + 8.5f))); };
    for (size_t k = 0; k < BLOCK / 2; k++)
        halves[k] = static_cast<uint8_t>(digit(x[k]) | digit(x[k + BLOCK / 2]) << 4);
    put_q4(m, output, block, to_half(scale), halves);
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

void pack_row(Matrix& m, size_t output, const uint8_t* row, Kind kind) {
    if (kind == m.kind && kind == Kind::Q8) {
        for (size_t block = 0; block < m.blocks; block++) {
            int8_t numbers[BLOCK];
            std::memcpy(numbers, row + block * Q8_BYTES + 2, BLOCK);
            put_q8(m, output, block, read16(row + block * Q8_BYTES), numbers);
        }
        return;
    }
    if (kind == m.kind && kind == Kind::Q4) {
        for (size_t block = 0; block < m.blocks; block++)
            put_q4(m, output, block, read16(row + block * Q4_BYTES), row + block * Q4_BYTES + 2);
        return;
    }
    if (kind == m.kind && kind == Kind::Q4M) {
        for (size_t block = 0; block < m.blocks; block++) {
            const uint8_t* from = row + block * Q4M_BYTES;
            put_q4(m, output, block, read16(from), from + 4);
            m.scales(output / TILE)[block * m.block_scales() + TILE + output % TILE] = read16(from + 2);
        }
        return;
    }
    std::vector<float> x(m.blocks * BLOCK, 0.0f);
    read_row(row, kind, m.inputs, x.data());
    if (!m.quantised()) return put_plain(m, output, row, kind, x.data(), m.inputs);
    for (size_t block = 0; block < m.blocks; block++)
        (m.kind == Kind::Q8 ? quantise_q8 : quantise_q4)(m, output, block, x.data() + block * BLOCK);
}

}  // namespace

size_t bytes_of_row(const std::string& source, size_t inputs) {
    switch (kind_of(source)) {
        case Kind::Q8: return inputs / BLOCK * Q8_BYTES;
        case Kind::Q4: return inputs / BLOCK * Q4_BYTES;
        case Kind::Q4M: return inputs / BLOCK * Q4M_BYTES;
        case Kind::F32: return inputs * 4;
        default: return inputs * 2;
    }
}

Matrix pack(const uint8_t* data, size_t bytes, const std::string& source, const std::string& target, size_t outputs,
            size_t inputs, const int32_t* order, size_t threads) {
    const Kind kind = kind_of(source);
    if (!outputs || !inputs || outputs > MOST_NUMBERS / inputs)
        throw std::invalid_argument("weights of " + std::to_string(outputs) + " times " + std::to_string(inputs));
    if ((kind == Kind::Q8 || kind == Kind::Q4 || kind == Kind::Q4M) && inputs % BLOCK)
        throw std::invalid_argument(std::to_string(inputs) + " inputs of " + source + " are no whole blocks of 32");
    const size_t row = bytes_of_row(source, inputs);
    if (bytes != row * outputs)
        throw std::invalid_argument("weights have " + std::to_string(bytes) + " bytes and need " +
                                    std::to_string(row * outputs));
    for (size_t i = 0; order && i < outputs; i++)
        if (order[i] < 0 || static_cast<size_t>(order[i]) >= outputs)
            throw std::invalid_argument("an order of rows names row " + std::to_string(order[i]));
    Matrix m;
    m.kind = target == "same" ? kind : kind_of(target);
    if (m.kind != kind && (m.kind == Kind::F16 || m.kind == Kind::Q4M))
        throw std::invalid_argument("weights of type " + source + " are not converted to " + target);
    m.outputs = outputs;
    m.inputs = inputs;
    m.tiles = (outputs + TILE - 1) / TILE;
    m.blocks = (inputs + BLOCK - 1) / BLOCK;
    const size_t quants = m.tiles * m.blocks * m.block_bytes();
    m.memory = Pages(quants + (m.quantised() ? m.tiles * m.blocks * m.block_scales() * 2 : 0));
    m.scales_at = quants;
    Pool::shared().run(m.tiles, threads, [&](size_t tile, size_t) {
        for (size_t output = tile * TILE; output < std::min(outputs, (tile + 1) * TILE); output++)
            pack_row(m, output, data + (order ? order[output] : output) * row, kind);
    });
    return m;
}

void unpack_row(const Matrix& m, size_t output, float* out) {
    const size_t tile = output / TILE, lane = output % TILE;
    for (size_t i = 0; i < m.inputs; i++) {
        const size_t block = i / BLOCK, k = i % BLOCK;
        const uint8_t* numbers = m.quants(tile) + block * m.block_bytes();
        const uint8_t* number = numbers + (k * TILE + lane) * (m.kind == Kind::F32 ? 4 : 2);
        switch (m.kind) {
            case Kind::F32: std::memcpy(out + i, number, 4); break;
            case Kind::F16: out[i] = from_half(read16(number)); break;
            case Kind::BF16: out[i] = from_bfloat(read16(number)); break;
            case Kind::Q8: {
                const int value = numbers[k / 4 * 64 + lane * 4 + k % 4] - 128;
                out[i] = static_cast<float>(value) * from_half(m.scales(tile)[block * TILE + lane]);
                break;
            }
            default: {
                const int both = numbers[k % 16 / 4 * 64 + lane * 4 + k % 4], value = k < 16 ? both & 15 : both >> 4;
                const uint16_t* scales = m.scales(tile) + block * m.block_scales();
                out[i] = m.kind == Kind::Q4 ? static_cast<float>(value - 8) * from_half(scales[lane])
                                            : static_cast<float>(value) * from_half(scales[lane]) +
                                                  from_half(scales[TILE + lane]);
                break;
            }
        }
    }
}

}  // namespace outrider
