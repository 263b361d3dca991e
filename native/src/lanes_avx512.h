// Sixteen numbers in one AVX-512 register; products by VNNI.
#pragma once

#include <immintrin.h>

namespace {

struct Lanes {
    __m512 v;

    static Lanes set(float x) { return {_mm512_set1_ps(x)}; }
    static Lanes load(const float* x) { return {_mm512_loadu_ps(x)}; }
    static Lanes load_half(const uint16_t* x) {
        return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)))};
    }
    static Lanes load_bfloat(const uint16_t* x) {
        const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
        return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16))};
    }
    static Lanes load_bytes(const uint8_t* x) {
        return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x))))};
    }
    void store(float* x) const { _mm512_storeu_ps(x, v); }
    void store_half(uint16_t* x) const {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(x), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
    }
    void store_low_bytes(int8_t* x) const {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(x), _mm512_cvtepi32_epi8(_mm512_castps_si512(v)));
    }
    static Lanes power(Lanes n) {
        const __m512i bits = _mm512_slli_epi32(_mm512_castps_si512(n.v), 23);
        return {_mm512_castsi512_ps(_mm512_add_epi32(bits, _mm512_set1_epi32(127 << 23)))};
    }
    static float sum(Lanes x) {
        const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x.v), 1));
        const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x.v), high);
        const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
        const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
    }
    static float largest(Lanes x) { return _mm512_reduce_max_ps(x.v); }
    static Lanes absolute(Lanes a) { return {_mm512_abs_ps(a.v)}; }
    static Lanes fma(Lanes a, Lanes b, Lanes c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
    static Lanes max(Lanes a, Lanes b) { return {_mm512_max_ps(a.v, b.v)}; }
    static Lanes min(Lanes a, Lanes b) { return {_mm512_min_ps(a.v, b.v)}; }
    friend Lanes operator+(Lanes a, Lanes b) { return {_mm512_add_ps(a.v, b.v)}; }
    friend Lanes operator-(Lanes a, Lanes b) { return {_mm512_sub_ps(a.v, b.v)}; }
    friend Lanes operator*(Lanes a, Lanes b) { return {_mm512_mul_ps(a.v, b.v)}; }
    friend Lanes operator/(Lanes a, Lanes b) { return {_mm512_div_ps(a.v, b.v)}; }
};

struct Products {
    static constexpr int TILES = 2, TOKENS = 6;  // 12 sums, 12 results: of 32 registers the most

    static __m512i four(const int8_t* inputs) {
        int32_t bits;
        __builtin_memcpy(&bits, inputs, 4);
        return _mm512_set1_epi32(bits);
    }
    template <int T, int R>
    static void begin(int offset, const int32_t* sums, __m512i (*sum)[R]) {
        for (int r = 0; r < R; r++)
            for (int t = 0; t < T; t++) sum[t][r] = _mm512_set1_epi32(-offset * sums[r]);
    }
    template <int T, int R>
    static void end(__m512i (*sum)[R], Lanes (*out)[R]) {
        for (int t = 0; t < T; t++)
            for (int r = 0; r < R; r++) out[t][r] = {_mm512_cvtepi32_ps(sum[t][r])};
    }
    template <int T, int R>
    static void q8(const uint8_t* const* weights, const int8_t* inputs, const int32_t* sums, Lanes (*out)[R]) {
        __m512i sum[T][R];
        begin<T, R>(128, sums, sum);
#pragma GCC unroll 8
        for (int k = 0; k < 8; k++) {
            __m512i w[T];
            for (int t = 0; t < T; t++) w[t] = _mm512_loadu_si512(weights[t] + 64 * k);
            for (int r = 0; r < R; r++) {
                const __m512i x = four(inputs + 32 * r + 4 * k);
                for (int t = 0; t < T; t++) sum[t][r] = _mm512_dpbusd_epi32(sum[t][r], w[t], x);
            }
        }
        end<T, R>(sum, out);
    }
    template <int OFFSET, int T, int R>
    static void q4(const uint8_t* const* weights, const int8_t* inputs, const int32_t* sums, Lanes (*out)[R]) {
        const __m512i low = _mm512_set1_epi8(15);
        __m512i sum[T][R];
        begin<T, R>(OFFSET, sums, sum);
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) {
            __m512i w[T], high[T];
            for (int t = 0; t < T; t++) {
                const __m512i both = _mm512_loadu_si512(weights[t] + 64 * k);
                w[t] = _mm512_and_si512(both, low);
                high[t] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
            }
            for (int r = 0; r < R; r++) {
                const __m512i x = four(inputs + 32 * r + 4 * k), y = four(inputs + 32 * r + 16 + 4 * k);
                for (int t = 0; t < T; t++) {
                    sum[t][r] = _mm512_dpbusd_epi32(sum[t][r], w[t], x);
                    sum[t][r] = _mm512_dpbusd_epi32(sum[t][r], high[t], y);
                }
            }
        }
        end<T, R>(sum, out);
    }
    template <bool HIGH>
    static __m512i digit(__m512i both) {
        return _mm512_and_si512(HIGH ? _mm512_srli_epi16(both, 4) : both, _mm512_set1_epi8(15));
    }
    template <class Of, int T, int R>
    static void levels(const uint8_t* const* weights, const int8_t* inputs, const int32_t* sums, Lanes (*out)[R]) {
        const __m512i all = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(Of::LEVELS)));
        __m512i sum[T][R];
        begin<T, R>(Of::OFFSET, sums, sum);
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) {
            __m512i w[T], high[T];
            for (int t = 0; t < T; t++) {
                const __m512i both = _mm512_loadu_si512(weights[t] + 64 * k);
                w[t] = _mm512_shuffle_epi8(all, digit<false>(both));
                high[t] = _mm512_shuffle_epi8(all, digit<true>(both));
            }
            for (int r = 0; r < R; r++) {
                const __m512i x = four(inputs + 32 * r + 4 * k), y = four(inputs + 32 * r + 16 + 4 * k);
                for (int t = 0; t < T; t++) {
                    sum[t][r] = _mm512_dpbusd_epi32(sum[t][r], w[t], x);
                    sum[t][r] = _mm512_dpbusd_epi32(sum[t][r], high[t], y);
                }
            }
        }
        end<T, R>(sum, out);
    }
    // Adds the products of the first or of the last 16 inputs, of 5 bits.
    template <bool HIGH, int T, int R>
    static void add_q5(const uint8_t* const* weights, const int8_t* inputs, __m512i (*sum)[R]) {
        const __m512i bit = _mm512_set1_epi8(16);
        __m512i above[T];
        for (int t = 0; t < T; t++) {
            above[t] = _mm512_loadu_si512(weights[t] + 256);
            if (!HIGH) above[t] = _mm512_slli_epi16(above[t], 4);
        }
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) {
            __m512i w[T];
            for (int t = 0; t < T; t++) {
                w[t] = _mm512_or_si512(digit<HIGH>(_mm512_loadu_si512(weights[t] + 64 * k)),
                                       _mm512_and_si512(above[t], bit));
                above[t] = _mm512_srli_epi16(above[t], 1);
            }
            for (int r = 0; r < R; r++) {
                const __m512i x = four(inputs + 32 * r + 4 * k);
                for (int t = 0; t < T; t++) sum[t][r] = _mm512_dpbusd_epi32(sum[t][r], w[t], x);
            }
        }
    }
    template <int OFFSET, int T, int R>
    static void q5(const uint8_t* const* weights, const int8_t* inputs, const int32_t* sums, Lanes (*out)[R]) {
        __m512i sum[T][R];
        begin<T, R>(OFFSET, sums, sum);
        add_q5<false, T, R>(weights, inputs, sum);
        add_q5<true, T, R>(weights, inputs + 16, sum);
        end<T, R>(sum, out);
    }
    // The first or the last 16 inputs.
    template <int BITS, int OFFSET, bool HIGH, int T, int R>
    static void half(const uint8_t* const* weights, const int8_t* inputs, const int16_t* pairs, Lanes (*out)[R]) {
        const __m512i bits = _mm512_set1_epi8(48);
        __m512i sum[T][R], above[T];
        for (int r = 0; r < R; r++)
            for (int t = 0; t < T; t++) sum[t][r] = _mm512_set1_epi32(-OFFSET * (pairs[4 * r] + pairs[4 * r + 1]));
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) {
            __m512i w[T];
            for (int t = 0; t < T; t++) {
                w[t] = digit<HIGH>(_mm512_loadu_si512(weights[t] + 64 * k));
                if (BITS == 6) {
                    const uint8_t* at = weights[t] + 256 + 64 * HIGH;
                    if (k == 0) above[t] = _mm512_loadu_si512(at);
                    if (k == 2) above[t] = _mm512_slli_epi16(_mm512_loadu_si512(at), 4);
                    w[t] = _mm512_or_si512(w[t], _mm512_and_si512(above[t], bits));
                    above[t] = _mm512_srli_epi16(above[t], 2);
                }
            }
            for (int r = 0; r < R; r++) {
                const __m512i x = four(inputs + 32 * r + 4 * k);
                for (int t = 0; t < T; t++) sum[t][r] = _mm512_dpbusd_epi32(sum[t][r], w[t], x);
            }
        }
        end<T, R>(sum, out);
    }
    template <int BITS, int OFFSET, int T, int R>
    static void halves(const uint8_t* const* weights, const int8_t* inputs, const int16_t* pairs, Lanes (*first)[R],
                       Lanes (*last)[R]) {
        half<BITS, OFFSET, false, T, R>(weights, inputs, pairs, first);
        half<BITS, OFFSET, true, T, R>(weights, inputs + 16, pairs + 2, last);
    }
};

}  // namespace
