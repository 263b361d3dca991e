// Sixteen numbers in two AVX2 registers. Products of 4-bit numbers are summed in int16, which they cannot overflow;
// 8-bit weights are taken as two digits of 4 bits, one after the other, so that all sums stay in registers.
#pragma once

#include <immintrin.h>

namespace {

struct Lanes {
    __m256 lo, hi;

    static __m256i words(const uint16_t* x) {
        return _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
    }
    static Lanes set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
    static Lanes load(const float* x) { return {_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8)}; }
    static Lanes load_half(const uint16_t* x) {
        return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x))),
                _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + 8)))};
    }
    static Lanes load_bfloat(const uint16_t* x) {
        return {_mm256_castsi256_ps(_mm256_slli_epi32(words(x), 16)),
                _mm256_castsi256_ps(_mm256_slli_epi32(words(x + 8), 16))};
    }
    static Lanes load_bytes(const uint8_t* x) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
        return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)),
                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)))};
    }
    void store(float* x) const {
        _mm256_storeu_ps(x, lo);
        _mm256_storeu_ps(x + 8, hi);
    }
    void store_half(uint16_t* x) const {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(x), _mm256_cvtps_ph(lo, _MM_FROUND_TO_NEAREST_INT));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(x + 8), _mm256_cvtps_ph(hi, _MM_FROUND_TO_NEAREST_INT));
    }
    void store_low_bytes(int8_t* x) const {
        const __m256i byte = _mm256_set1_epi32(255);
        const __m256i a = _mm256_and_si256(_mm256_castps_si256(lo), byte);
        const __m256i b = _mm256_and_si256(_mm256_castps_si256(hi), byte);
        const __m256i both = _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xd8);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(x),
                         _mm_packus_epi16(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1)));
    }
    static __m256 power(__m256 n) {
        const __m256i bits = _mm256_slli_epi32(_mm256_castps_si256(n), 23);
        return _mm256_castsi256_ps(_mm256_add_epi32(bits, _mm256_set1_epi32(127 << 23)));
    }
    static Lanes power(Lanes n) { return {power(n.lo), power(n.hi)}; }
    static float sum(Lanes x) {
        const __m256 eight = _mm256_add_ps(x.lo, x.hi);
        const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
        const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
    }
    static float largest(Lanes x) {
        const __m256 eight = _mm256_max_ps(x.lo, x.hi);
        const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
        const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
    }
    static Lanes absolute(Lanes a) {
        const __m256 sign = _mm256_set1_ps(-0.0f);
        return {_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi)};
    }
    static Lanes fma(Lanes a, Lanes b, Lanes c) {
        return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
    }
    static Lanes max(Lanes a, Lanes b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
    static Lanes min(Lanes a, Lanes b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
    friend Lanes operator+(Lanes a, Lanes b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
    friend Lanes operator-(Lanes a, Lanes b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
    friend Lanes operator*(Lanes a, Lanes b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
    friend Lanes operator/(Lanes a, Lanes b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
};

struct Products {
    static constexpr int TILES = 1, TOKENS = 4;

    static __m256i load(const uint8_t* weights) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights));
    }
    static __m256i four(const void* inputs) {  // bytes, in every output's place
        int32_t bits;
        __builtin_memcpy(&bits, inputs, 4);
        return _mm256_set1_epi32(bits);
    }
    template <bool HIGH>
    static __m256i digit(__m256i both) {
        return _mm256_and_si256(HIGH ? _mm256_srli_epi16(both, 4) : both, _mm256_set1_epi8(15));
    }
    // The empty statement keeps the order of sums: compilers choose another one, and then hold dozens of products at
    // once, which fit into no registers.
    static void add(__m256i& sum, __m256i digits, __m256i x) {
        sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(digits, x));
        __asm__("" : "+x"(sum));
    }
    // Adds the products of digits of 16 outputs with 4 inputs of each token, in int16. Of 32 inputs, which are 8 steps
    // of 2 pairs, they are 8 * 2 * 15 * 127 = 30,480 at most.
    template <int R>
    static void step(__m256i a, __m256i b, const int8_t* inputs, __m256i* lo, __m256i* hi) {
        for (int r = 0; r < R; r++) {
            const __m256i x = four(inputs + 32 * r);
            add(lo[r], a, x);
            add(hi[r], b, x);
        }
    }
    template <bool HIGH, int R>
    static void add_q8(const uint8_t* weights, const int8_t* inputs, __m256i* lo, __m256i* hi) {
#pragma GCC unroll 1
        for (int k = 0; k < 8; k++) {
            const uint8_t* at = weights + 64 * k;
            step<R>(digit<HIGH>(load(at)), digit<HIGH>(load(at + 32)), inputs + 4 * k, lo, hi);
        }
    }
    template <int T, int R>
    static void q8(const uint8_t* const* weights, const int8_t* inputs, const int32_t* sums, Lanes (*out)[R]) {
        __m256i lo[R], hi[R], units_lo[R], units_hi[R];
        clear<R>(lo, hi);
        add_q8<false, R>(weights[0], inputs, lo, hi);
        for (int r = 0; r < R; r++) units_lo[r] = whole(lo[r], 1), units_hi[r] = whole(hi[r], 1);
        clear<R>(lo, hi);
        add_q8<true, R>(weights[0], inputs, lo, hi);
        for (int r = 0; r < R; r++) {
            const __m256i offset = _mm256_set1_epi32(-128 * sums[r]);
            const __m256i a = _mm256_add_epi32(whole(lo[r], 16), _mm256_add_epi32(units_lo[r], offset));
            const __m256i b = _mm256_add_epi32(whole(hi[r], 16), _mm256_add_epi32(units_hi[r], offset));
            out[0][r] = {_mm256_cvtepi32_ps(a), _mm256_cvtepi32_ps(b)};
        }
    }
    template <int OFFSET, int T, int R>
    static void q4(const uint8_t* const* weights, const int8_t* inputs, const int32_t* sums, Lanes (*out)[R]) {
        __m256i lo[R], hi[R];
        clear<R>(lo, hi);
#pragma GCC unroll 1
        for (int k = 0; k < 4; k++) {
            const __m256i a = load(weights[0] + 64 * k), b = load(weights[0] + 64 * k + 32);
            step<R>(digit<false>(a), digit<false>(b), inputs + 4 * k, lo, hi);
            step<R>(digit<true>(a), digit<true>(b), inputs + 16 + 4 * k, lo, hi);
        }
        for (int r = 0; r < R; r++) {
            const __m256i offset = _mm256_set1_epi32(-OFFSET * sums[r]);
            out[0][r] = {_mm256_cvtepi32_ps(_mm256_add_epi32(whole(lo[r], 1), offset)),
                         _mm256_cvtepi32_ps(_mm256_add_epi32(whole(hi[r], 1), offset))};
        }
    }
    // Levels of 8 bits: as in q8, one digit of them after the other.
    template <class Of, bool HIGH, int R>
    static void add_levels(const uint8_t* weights, const int8_t* inputs, __m256i* lo, __m256i* hi) {
        const __m256i levels = digit<HIGH>(table<Of>());
#pragma GCC unroll 1
        for (int k = 0; k < 4; k++) {
            const __m256i a = load(weights + 64 * k), b = load(weights + 64 * k + 32);
            step<R>(_mm256_shuffle_epi8(levels, digit<false>(a)), _mm256_shuffle_epi8(levels, digit<false>(b)),
                    inputs + 4 * k, lo, hi);
            step<R>(_mm256_shuffle_epi8(levels, digit<true>(a)), _mm256_shuffle_epi8(levels, digit<true>(b)),
                    inputs + 16 + 4 * k, lo, hi);
        }
    }
    // Levels of 5 bits: as in q5, the first or the last 16 inputs.
    template <class Of, bool HIGH, int R>
    static void add_small_levels(const uint8_t* weights, const int8_t* inputs, __m256i* lo, __m256i* hi) {
        const __m256i levels = table<Of>();
#pragma GCC unroll 1
        for (int k = 0; k < 4; k++) {
            const __m256i a = load(weights + 64 * k), b = load(weights + 64 * k + 32);
            step<R>(_mm256_shuffle_epi8(levels, digit<HIGH>(a)), _mm256_shuffle_epi8(levels, digit<HIGH>(b)),
                    inputs + 16 * HIGH + 4 * k, lo, hi);
        }
    }
    template <class Of>
    static __m256i table() {
        return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(Of::LEVELS)));
    }
    template <class Of, int T, int R>
    static void levels(const uint8_t* const* weights, const int8_t* inputs, const int32_t* sums, Lanes (*out)[R]) {
        constexpr bool SMALL = Of::OFFSET < 16;
        __m256i lo[R], hi[R], first_lo[R], first_hi[R];
        clear<R>(lo, hi);
        (SMALL ? add_small_levels<Of, false, R> : add_levels<Of, false, R>)(weights[0], inputs, lo, hi);
        for (int r = 0; r < R; r++) first_lo[r] = whole(lo[r], 1), first_hi[r] = whole(hi[r], 1);
        clear<R>(lo, hi);
        (SMALL ? add_small_levels<Of, true, R> : add_levels<Of, true, R>)(weights[0], inputs, lo, hi);
        for (int r = 0; r < R; r++)
            out[0][r] = shifted(_mm256_add_epi32(whole(lo[r], SMALL ? 1 : 16), first_lo[r]),
                                _mm256_add_epi32(whole(hi[r], SMALL ? 1 : 16), first_hi[r]),
                                _mm256_set1_epi32(-Of::OFFSET * sums[r]));
    }
    // Of the first or of the last 16 inputs, whose fifth bits stand in `fifth`. 4 steps of 2 pairs are 31,496 at most.
    template <bool HIGH, int R>
    static void add_q5(const uint8_t* weights, const int8_t* inputs, __m256i* lo, __m256i* hi) {
        const __m256i bit = _mm256_set1_epi8(16);
        __m256i a = load(weights + 256), b = load(weights + 288);
        if (!HIGH) a = _mm256_slli_epi16(a, 4), b = _mm256_slli_epi16(b, 4);
#pragma GCC unroll 1
        for (int k = 0; k < 4; k++) {
            const uint8_t* at = weights + 64 * k;
            step<R>(_mm256_or_si256(digit<HIGH>(load(at)), _mm256_and_si256(a, bit)),
                    _mm256_or_si256(digit<HIGH>(load(at + 32)), _mm256_and_si256(b, bit)), inputs + 4 * k, lo, hi);
            a = _mm256_srli_epi16(a, 1), b = _mm256_srli_epi16(b, 1);
        }
    }
    template <int OFFSET, int T, int R>
    static void q5(const uint8_t* const* weights, const int8_t* inputs, const int32_t* sums, Lanes (*out)[R]) {
        __m256i lo[R], hi[R], first_lo[R], first_hi[R];
        clear<R>(lo, hi);
        add_q5<false, R>(weights[0], inputs, lo, hi);
        for (int r = 0; r < R; r++) first_lo[r] = whole(lo[r], 1), first_hi[r] = whole(hi[r], 1);
        clear<R>(lo, hi);
        add_q5<true, R>(weights[0], inputs + 16, lo, hi);
        for (int r = 0; r < R; r++) {
            const __m256i offset = _mm256_set1_epi32(-OFFSET * sums[r]);
            out[0][r] = shifted(_mm256_add_epi32(whole(lo[r], 1), first_lo[r]),
                                _mm256_add_epi32(whole(hi[r], 1), first_hi[r]), offset);
        }
    }
    // The first or the last 16 inputs. Sums in int16 begin with what the offset takes off, and may pass its limits on
    // their way: of 6 bits and an offset of 32 they are 32 * 127 * 8 = 32,512 at most in the end.
    template <int BITS, int OFFSET, bool HIGH, int R>
    static void half(const uint8_t* weights, const int8_t* inputs, const int16_t* pairs, Lanes* out) {
        const __m256i bits = _mm256_set1_epi8(48);
        const uint8_t* above = weights + 256 + 64 * HIGH;
        __m256i lo[R], hi[R], a, b;
        for (int r = 0; r < R; r++)
            lo[r] = hi[r] = _mm256_mullo_epi16(_mm256_set1_epi16(-OFFSET), four(pairs + 4 * r));
#pragma GCC unroll 1
        for (int k = 0; k < 4; k++) {
            __m256i x = digit<HIGH>(load(weights + 64 * k)), y = digit<HIGH>(load(weights + 64 * k + 32));
            if (BITS == 6) {
                if (k % 2 == 0) {
                    a = load(above), b = load(above + 32);
                    if (k) a = _mm256_slli_epi16(a, 4), b = _mm256_slli_epi16(b, 4);
                }
                x = _mm256_or_si256(x, _mm256_and_si256(a, bits)), a = _mm256_srli_epi16(a, 2);
                y = _mm256_or_si256(y, _mm256_and_si256(b, bits)), b = _mm256_srli_epi16(b, 2);
            }
            step<R>(x, y, inputs + 4 * k, lo, hi);
        }
        for (int r = 0; r < R; r++)
            out[r] = {_mm256_cvtepi32_ps(whole(lo[r], 1)), _mm256_cvtepi32_ps(whole(hi[r], 1))};
    }
    template <int BITS, int OFFSET, int T, int R>
    static void halves(const uint8_t* const* weights, const int8_t* inputs, const int16_t* pairs, Lanes (*first)[R],
                       Lanes (*last)[R]) {
        half<BITS, OFFSET, false, R>(weights[0], inputs, pairs, first[0]);
        half<BITS, OFFSET, true, R>(weights[0], inputs + 16, pairs + 2, last[0]);
    }
    static Lanes shifted(__m256i lo, __m256i hi, __m256i offset) {
        return {_mm256_cvtepi32_ps(_mm256_add_epi32(lo, offset)), _mm256_cvtepi32_ps(_mm256_add_epi32(hi, offset))};
    }
    template <int R>
    static void clear(__m256i* lo, __m256i* hi) {
        for (int r = 0; r < R; r++) lo[r] = hi[r] = _mm256_setzero_si256();
    }
    // The sums of two neighbouring numbers in int32, times `factor`.
    static __m256i whole(__m256i pairs, int16_t factor) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(factor)); }
};

}  // namespace
