// Products of Q4_1 weights and 8 tokens or more by AMX: one instruction multiplies a block of 16 outputs with that of
// up to 16 tokens. For Q8_0 and Q4_0, whose sums need a correction instead of a minimum, VNNI is as fast.
//
// Sums leave it through memory, and weights of 4 bits must be unpacked in memory. What has just been written is slow to
// read, and an instruction that waits for a product holds others up. So a block passes through stages, and each round
// takes different blocks through all of them: unpack, load, multiply, store the sums, and add them, as elsewhere.
#pragma once

#include <immintrin.h>

#include "kernel_lanes.h"

namespace {

constexpr size_t AMX_FEWEST = 8, AMX_MOST = 16;  // tokens; with fewer VNNI is as fast
constexpr size_t LEAD = 5, RING = 8;             // rounds from loading to adding, and from unpacking to adding

// Two sets of tiles in turn, each inputs [token][32], weights [4 inputs][output][4] and sums [token][output].
void shape_tiles(int tokens) {
    struct alignas(64) {
        uint8_t palette = 1, rest[15] = {};
        uint16_t row_bytes[16] = {};
        uint8_t rows[16] = {};
    } shapes;
    for (int at : {0, 3}) {
        shapes.row_bytes[at] = BLOCK;
        shapes.row_bytes[at + 1] = shapes.row_bytes[at + 2] = 4 * TILE;
        shapes.rows[at] = shapes.rows[at + 2] = static_cast<uint8_t>(tokens);
        shapes.rows[at + 1] = BLOCK / 4;
    }
    _tile_loadconfig(&shapes);
}

template <int SET>
void load_tiles(const int8_t* inputs, const uint8_t* weights) {
    if constexpr (SET == 0) {
        _tile_loadd(0, inputs, 32L);
        _tile_loadd(1, weights, 64L);
    } else {
        _tile_loadd(3, inputs, 32L);
        _tile_loadd(4, weights, 64L);
    }
}

template <int SET>
void multiply_tiles() {
    if constexpr (SET == 0) {
        _tile_zero(2);
        _tile_dpbsud(2, 0, 1);
    } else {
        _tile_zero(5);
        _tile_dpbsud(5, 3, 4);
    }
}

template <int SET>
void store_tile(int32_t* sums) {
    if constexpr (SET == 0)
        _tile_stored(2, sums, 64L);
    else
        _tile_stored(5, sums, 64L);
}

void unpack_halves(const uint8_t* weights, uint8_t* to) {
    const __m512i low = _mm512_set1_epi8(15);
    for (int k = 0; k < 4; k++) {
        const __m512i both = _mm512_loadu_si512(weights + 64 * k);
        _mm512_store_si512(to + 64 * k, _mm512_and_si512(both, low));
        _mm512_store_si512(to + 64 * k + 256, _mm512_and_si512(_mm512_srli_epi16(both, 4), low));
    }
}

// The blocks of neighbouring tiles one after the other, times R tokens.
template <int R>
class AmxPass {
   public:
    AmxPass(const Matrix& m, size_t tile, size_t tiles, const Inputs& in, size_t token)
        : weights_(m.quants(tile)), scales_(m.scales(tile)), blocks_(m.blocks), count_(tiles * m.blocks), in_(in),
          token_(token) {}

    void run(float* out, size_t stride, Ahead ahead) {
        shape_tiles(R);
        for (size_t number = 0; number < RING; number++) unpack(number);
        for (size_t i = 0; i < LEAD; i++) advance();
        for (size_t number = 0; number < count_; out += TILE) {
            __m512 total[R];
            for (int r = 0; r < R; r++) total[r] = _mm512_setzero_ps();
            for (size_t block = 0; block < blocks_; block++, number++) {
                if (ahead.bytes && block % ahead.groups == ahead.group)
                    for (size_t line = 0; line < BYTES; line += 64)
                        __builtin_prefetch(weights_ + number * BYTES + ahead.bytes + line, 0, 2);
                advance();
                add(number, block * in_.tokens + token_, total);
                unpack(number + RING);
            }
            for (int r = 0; r < R; r++) _mm512_storeu_ps(out + r * stride, total[r]);
        }
        _tile_release();
    }

   private:
    static constexpr size_t BYTES = TILE * BLOCK / 2, SCALES = 2 * TILE;

    void unpack(size_t number) {
        if (number < count_) unpack_halves(weights_ + number * BYTES, unpacked_[number % RING]);
    }

    // Loads block `begun_`, multiplies the one before, and stores the sums of that before.
    void advance() {
        asm volatile("" ::: "memory");  // loading a tile is no reading of memory to the compiler
        begun_ & 1 ? advance_in<1>() : advance_in<0>();
        begun_++;
    }
    template <int SET>
    void advance_in() {
        if (begun_ >= 2 && begun_ < count_ + 2) store_tile<SET>(sums_[(begun_ - 2) % RING]);
        if (begun_ >= 1 && begun_ < count_ + 1) multiply_tiles<1 - SET>();
        if (begun_ >= count_) return;
        load_tiles<SET>(in_.quants(block_ * in_.tokens + token_), unpacked_[begun_ % RING]);
        if (++block_ == blocks_) block_ = 0;
    }

    // The operations of quantised_tile, in their order.
    void add(size_t number, size_t at, __m512* total) const {
        const int32_t* sums = sums_[number % RING];
        const uint16_t* scales = reinterpret_cast<const uint16_t*>(scales_) + number * SCALES;
        const __m512 scale = Lanes::load_half(scales).v;
        const __m512 minimum = Lanes::load_half(scales + TILE).v;
        for (int r = 0; r < R; r++) {
            const __m512i sum = _mm512_load_si512(sums + r * TILE);
            const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(in_.scales[at + r]));
            total[r] = _mm512_fmadd_ps(scaled, scale, total[r]);
            total[r] = _mm512_fmadd_ps(_mm512_set1_ps(in_.shifts[at + r]), minimum, total[r]);
        }
    }

    alignas(64) uint8_t unpacked_[RING][TILE * BLOCK];
    alignas(64) int32_t sums_[RING][R * TILE];
    const uint8_t* weights_;
    const uint8_t* scales_;
    size_t blocks_, count_;
    const Inputs& in_;
    size_t token_;
    size_t begun_ = 0, block_ = 0;
};

template <int R = AMX_MOST>
void multiply_group(size_t tokens, const Matrix& m, size_t tile, size_t tiles, const Inputs& in, size_t token,
                    float* out, size_t stride, Ahead ahead) {
    if constexpr (R > AMX_FEWEST)
        if (tokens < R) return multiply_group<R - 1>(tokens, m, tile, tiles, in, token, out, stride, ahead);
    AmxPass<R>(m, tile, tiles, in, token).run(out, stride, ahead);
}

// At least AMX_FEWEST tokens.
void multiply_by_amx(const Matrix& m, size_t tile, size_t tiles, size_t next, const Inputs& in, size_t first,
                     size_t count, float* out, size_t stride) {
    const size_t groups = (count + AMX_MOST - 1) / AMX_MOST, bytes = next * m.blocks * m.block_bytes();
    for (size_t group = 0; group < groups; group++) {  // of nearly equal size
        const size_t begin = count * group / groups, size = count * (group + 1) / groups - begin;
        multiply_group(size, m, tile, tiles, in, first + begin, out + begin * stride, stride, {bytes, group, groups});
    }
}

}  // namespace
