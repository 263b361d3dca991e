// Sixteen numbers in plain C++. The other lanes_*.h offer the same operations with the same bits.
#pragma once

#include <cmath>
#include <cstring>

namespace {

struct Lanes {
    float at[16];

    template <class F>
    static Lanes make(F f) {
        Lanes out;
        for (int i = 0; i < 16; i++) out.at[i] = f(i);
        return out;
    }
    static Lanes set(float x) {
        return make([&](int) { return x; });
    }
    static Lanes load(const float* x) {
        return make([&](int i) { return x[i]; });
    }
    static Lanes load_half(const uint16_t* x) {
        return make([&](int i) { return outrider::from_half(x[i]); });
    }
    static Lanes load_bfloat(const uint16_t* x) {
        return make([&](int i) { return outrider::from_bfloat(x[i]); });
    }
    static Lanes load_bytes(const uint8_t* x) {
        return make([&](int i) { return static_cast<float>(x[i]); });
    }
    void store(float* x) const {
        for (int i = 0; i < 16; i++) x[i] = at[i];
    }
    void store_half(uint16_t* x) const {
        for (int i = 0; i < 16; i++) x[i] = outrider::to_half(at[i]);
    }
    // The lowest byte of each number's bits.
    void store_low_bytes(int8_t* x) const {
        for (int i = 0; i < 16; i++) std::memcpy(x + i, at + i, 1);
    }
    // 2^n for numbers of the form 1.5 * 2^23 + n.
    static Lanes power(Lanes n) {
        return make([&](int i) {
            uint32_t bits;
            std::memcpy(&bits, &n.at[i], 4);
            bits = (bits << 23) + (127u << 23);
            float value;
            std::memcpy(&value, &bits, 4);
            return value;
        });
    }
    // In the order of a binary tree, (i, i + 8), (i, i + 4) and so on, so that the width of registers does not show.
    static float sum(Lanes x) {
        for (int width = 8; width; width /= 2)
            for (int i = 0; i < width; i++) x.at[i] += x.at[i + width];
        return x.at[0];
    }
    // Where there is a NaN, perhaps that of the others.
    static float largest(Lanes x) {
        for (int i = 1; i < 16; i++) x.at[0] = x.at[0] > x.at[i] ? x.at[0] : x.at[i];
        return x.at[0];
    }
    static Lanes absolute(Lanes a) {
        return make([&](int i) { return std::fabs(a.at[i]); });
    }
    static Lanes fma(Lanes a, Lanes b, Lanes c) {
        return make([&](int i) { return __builtin_fmaf(a.at[i], b.at[i], c.at[i]); });
    }
    // b where either is NaN.
    static Lanes max(Lanes a, Lanes b) {
        return make([&](int i) { return a.at[i] > b.at[i] ? a.at[i] : b.at[i]; });
    }
    static Lanes min(Lanes a, Lanes b) {
        return make([&](int i) { return a.at[i] < b.at[i] ? a.at[i] : b.at[i]; });
    }
    friend Lanes operator+(Lanes a, Lanes b) {
        return make([&](int i) { return a.at[i] + b.at[i]; });
    }
    friend Lanes operator-(Lanes a, Lanes b) {
        return make([&](int i) { return a.at[i] - b.at[i]; });
    }
    friend Lanes operator*(Lanes a, Lanes b) {
        return make([&](int i) { return a.at[i] * b.at[i]; });
    }
    friend Lanes operator/(Lanes a, Lanes b) {
        return make([&](int i) { return a.at[i] / b.at[i]; });
    }
};

// Sums of products of one block and 16 outputs, exact in int32.
struct Products {
    static constexpr int TILES = 1, TOKENS = 4;  // that are computed together

    template <int T, int R>
    static void q8(const uint8_t* const* weights, const int8_t* inputs, const int32_t* sums, Lanes (*out)[R]) {
        for (int tile = 0; tile < T; tile++)
            for (int r = 0; r < R; r++)
                out[tile][r] = Lanes::make([&](int output) {
                    int32_t sum = -128 * sums[r];
                    for (int k = 0; k < 32; k++)
                        sum += weights[tile][k / 4 * 64 + output * 4 + k % 4] * inputs[r * 32 + k];
                    return static_cast<float>(sum);
                });
    }
    template <int OFFSET, int T, int R>
    static void q4(const uint8_t* const* weights, const int8_t* inputs, const int32_t* sums, Lanes (*out)[R]) {
        for (int tile = 0; tile < T; tile++)
            for (int r = 0; r < R; r++)
                out[tile][r] = Lanes::make([&](int output) {
                    int32_t sum = -OFFSET * sums[r];
                    for (int k = 0; k < 16; k++) {
                        const int both = weights[tile][k / 4 * 64 + output * 4 + k % 4];
                        sum += (both & 15) * inputs[r * 32 + k] + (both >> 4) * inputs[r * 32 + 16 + k];
                    }
                    return static_cast<float>(sum);
                });
    }
    template <int OFFSET, int T, int R>
    static void q5(const uint8_t* const* weights, const int8_t* inputs, const int32_t* sums, Lanes (*out)[R]) {
        for (int tile = 0; tile < T; tile++)
            for (int r = 0; r < R; r++)
                out[tile][r] = Lanes::make([&](int output) {
                    int32_t sum = -OFFSET * sums[r];
                    for (int k = 0; k < 32; k++) {
                        const int at = output * 4 + k % 4, both = weights[tile][k % 16 / 4 * 64 + at];
                        const int fifth = weights[tile][256 + at] >> k / 4 & 1;
                        sum += ((k < 16 ? both & 15 : both >> 4) | fifth << 4) * inputs[r * 32 + k];
                    }
                    return static_cast<float>(sum);
                });
    }
    // Of 4-bit numbers that stand for levels.
    template <class Of, int T, int R>
    static void levels(const uint8_t* const* weights, const int8_t* inputs, const int32_t* sums, Lanes (*out)[R]) {
        for (int tile = 0; tile < T; tile++)
            for (int r = 0; r < R; r++)
                out[tile][r] = Lanes::make([&](int output) {
                    int32_t sum = -Of::OFFSET * sums[r];
                    for (int k = 0; k < 16; k++) {
                        const int both = weights[tile][k / 4 * 64 + output * 4 + k % 4];
                        sum += Of::LEVELS[both & 15] * inputs[r * 32 + k];
                        sum += Of::LEVELS[both >> 4] * inputs[r * 32 + 16 + k];
                    }
                    return static_cast<float>(sum);
                });
    }
    // The sums of the first and of the last 16 inputs, of 4 or of 6 bits.
    template <int BITS, int OFFSET, int T, int R>
    static void halves(const uint8_t* const* weights, const int8_t* inputs, const int16_t* pairs, Lanes (*first)[R],
                       Lanes (*last)[R]) {
        for (int half = 0; half < 2; half++)
            for (int tile = 0; tile < T; tile++)
                for (int r = 0; r < R; r++)
                    (half ? last : first)[tile][r] = Lanes::make([&](int output) {
                        int32_t sum = -OFFSET * (pairs[4 * r + 2 * half] + pairs[4 * r + 2 * half + 1]);
                        for (int k = 0; k < 16; k++) {
                            const int at = output * 4 + k % 4, both = weights[tile][k / 4 * 64 + at];
                            const int above = BITS == 6 ? weights[tile][256 + 64 * half + at] >> (k / 4 * 2 + 4) % 8 & 3 : 0;
                            sum += ((half ? both >> 4 : both & 15) | above << 4) * inputs[r * 32 + half * 16 + k];
                        }
                        return static_cast<float>(sum);
                    });
    }
};

}  // namespace
