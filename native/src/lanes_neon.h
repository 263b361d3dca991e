// Sixteen numbers in four NEON registers; products by SDOT (ARMv8.2 with dot products). Small enough to be read against
// lanes_portable.h, which says what each operation does.
#pragma once

#include <arm_neon.h>

namespace {

struct Lanes {
    float32x4_t v[4];

    template <class F>
    static Lanes make(F f) {
        return {{f(0), f(1), f(2), f(3)}};
    }
    static Lanes set(float x) {
        return make([&](int) { return vdupq_n_f32(x); });
    }
    static Lanes load(const float* x) {
        return make([&](int i) { return vld1q_f32(x + 4 * i); });
    }
    static Lanes load_half(const uint16_t* x) {
        return make([&](int i) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(x + 4 * i))); });
    }
    static Lanes load_bfloat(const uint16_t* x) {
        return make([&](int i) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(x + 4 * i), 16)); });
    }
    static Lanes load_bytes(const uint8_t* x) {
        const uint8x16_t bytes = vld1q_u8(x);
        const uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_u8(vget_high_u8(bytes));
        return {{vcvtq_f32_u32(vmovl_u16(vget_low_u16(low))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(low))),
                 vcvtq_f32_u32(vmovl_u16(vget_low_u16(high))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(high)))}};
    }
    void store(float* x) const {
        for (int i = 0; i < 4; i++) vst1q_f32(x + 4 * i, v[i]);
    }
    void store_half(uint16_t* x) const {
        for (int i = 0; i < 4; i++) vst1_u16(x + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(v[i])));
    }
    void store_low_bytes(int8_t* x) const {
        const uint16x4_t a = vmovn_u32(vreinterpretq_u32_f32(v[0])), b = vmovn_u32(vreinterpretq_u32_f32(v[1]));
        const uint16x4_t c = vmovn_u32(vreinterpretq_u32_f32(v[2])), d = vmovn_u32(vreinterpretq_u32_f32(v[3]));
        const uint8x16_t bytes = vcombine_u8(vmovn_u16(vcombine_u16(a, b)), vmovn_u16(vcombine_u16(c, d)));
        vst1q_s8(x, vreinterpretq_s8_u8(bytes));
    }
    static Lanes power(Lanes n) {
        return make([&](int i) {
            const uint32x4_t bits = vshlq_n_u32(vreinterpretq_u32_f32(n.v[i]), 23);
            return vreinterpretq_f32_u32(vaddq_u32(bits, vdupq_n_u32(127u << 23)));
        });
    }
    static float sum(Lanes x) {
        const float32x4_t four = vaddq_f32(vaddq_f32(x.v[0], x.v[2]), vaddq_f32(x.v[1], x.v[3]));
        const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
        return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
    }
    static float largest(Lanes x) {
        return vmaxvq_f32(vmaxq_f32(vmaxq_f32(x.v[0], x.v[2]), vmaxq_f32(x.v[1], x.v[3])));
    }
    static Lanes absolute(Lanes a) {
        return make([&](int i) { return vabsq_f32(a.v[i]); });
    }
    static Lanes fma(Lanes a, Lanes b, Lanes c) {
        return make([&](int i) { return vfmaq_f32(c.v[i], a.v[i], b.v[i]); });
    }
    static Lanes max(Lanes a, Lanes b) {
        return make([&](int i) { return vbslq_f32(vcgtq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]); });
    }
    static Lanes min(Lanes a, Lanes b) {
        return make([&](int i) { return vbslq_f32(vcltq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]); });
    }
    friend Lanes operator+(Lanes a, Lanes b) {
        return make([&](int i) { return vaddq_f32(a.v[i], b.v[i]); });
    }
    friend Lanes operator-(Lanes a, Lanes b) {
        return make([&](int i) { return vsubq_f32(a.v[i], b.v[i]); });
    }
    friend Lanes operator*(Lanes a, Lanes b) {
        return make([&](int i) { return vmulq_f32(a.v[i], b.v[i]); });
    }
    friend Lanes operator/(Lanes a, Lanes b) {
        return make([&](int i) { return vdivq_f32(a.v[i], b.v[i]); });
    }
};

struct Products {
    static constexpr int TILES = 1, TOKENS = 4;

    // Weights are signed here: 128 is taken off, or a 4-bit number keeps its 8 and the sum starts with -8 * sum.
    template <int R, class Load>
    static void add(int group, Load load, const int8_t* inputs, int32x4_t (*sum)[4]) {
        for (int part = 0; part < 4; part++) {
            const int8x16_t w = load(16 * part);
            for (int r = 0; r < R; r++) {
                int32_t bits;
                __builtin_memcpy(&bits, inputs + 32 * r + 4 * group, 4);
                sum[r][part] = vdotq_s32(sum[r][part], w, vreinterpretq_s8_s32(vdupq_n_s32(bits)));
            }
        }
    }
    template <int R>
    static void end(int32x4_t (*sum)[4], Lanes* out) {
        for (int r = 0; r < R; r++) out[r] = Lanes::make([&](int part) { return vcvtq_f32_s32(sum[r][part]); });
    }
    template <int T, int R>
    static void q8(const uint8_t* const* weights, const int8_t* inputs, const int32_t*, Lanes (*out)[R]) {
        int32x4_t sum[R][4];
        for (int r = 0; r < R; r++)
            for (int part = 0; part < 4; part++) sum[r][part] = vdupq_n_s32(0);
        for (int k = 0; k < 8; k++) {
            const uint8_t* w = weights[0] + 64 * k;
            auto load = [&](int at) { return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(w + at), vdupq_n_u8(128))); };
            add<R>(k, load, inputs, sum);
        }
        end<R>(sum, out[0]);
    }
    template <int OFFSET, int T, int R>
    static void q4(const uint8_t* const* weights, const int8_t* inputs, const int32_t* sums, Lanes (*out)[R]) {
        int32x4_t sum[R][4];
        for (int r = 0; r < R; r++)
            for (int part = 0; part < 4; part++) sum[r][part] = vdupq_n_s32(-OFFSET * sums[r]);
        for (int k = 0; k < 4; k++) {
            const uint8_t* w = weights[0] + 64 * k;
            auto low = [&](int at) { return vreinterpretq_s8_u8(vandq_u8(vld1q_u8(w + at), vdupq_n_u8(15))); };
            auto high = [&](int at) { return vreinterpretq_s8_u8(vshrq_n_u8(vld1q_u8(w + at), 4)); };
            add<R>(k, low, inputs, sum);
            add<R>(k + 4, high, inputs, sum);
        }
        end<R>(sum, out[0]);
    }
    template <class Of, int T, int R>
    static void levels(const uint8_t* const* weights, const int8_t* inputs, const int32_t*, Lanes (*out)[R]) {
        int32x4_t sum[R][4];
        for (int r = 0; r < R; r++)
            for (int part = 0; part < 4; part++) sum[r][part] = vdupq_n_s32(0);
        const uint8x16_t table = vsubq_u8(vld1q_u8(Of::LEVELS), vdupq_n_u8(Of::OFFSET));
        for (int k = 0; k < 4; k++) {
            const uint8_t* w = weights[0] + 64 * k;
            auto low = [&](int at) {
                return vreinterpretq_s8_u8(vqtbl1q_u8(table, vandq_u8(vld1q_u8(w + at), vdupq_n_u8(15))));
            };
            auto high = [&](int at) { return vreinterpretq_s8_u8(vqtbl1q_u8(table, vshrq_n_u8(vld1q_u8(w + at), 4))); };
            add<R>(k, low, inputs, sum);
            add<R>(k + 4, high, inputs, sum);
        }
        end<R>(sum, out[0]);
    }
    // Adds the products of the first or of the last 16 inputs: 4 bits, and behind them what stands above these, of
    // which `shift` bits belong to each group of four inputs.
    template <bool HIGH, int R, class Above>
    static void add_half(const uint8_t* weights, const int8_t* inputs, Above above, int32x4_t (*sum)[4]) {
        for (int k = 0; k < 4; k++) {
            auto load = [&](int at) {
                const uint8x16_t both = vld1q_u8(weights + 64 * k + at);
                const uint8x16_t low = HIGH ? vshrq_n_u8(both, 4) : vandq_u8(both, vdupq_n_u8(15));
                return vreinterpretq_s8_u8(vorrq_u8(low, above(k, at)));
            };
            add<R>(k + 4 * HIGH, load, inputs, sum);
        }
    }
    // Shifted to the left, or to the right where `by` is negative.
    static uint8x16_t bits_of(const uint8_t* at, int by, uint8_t mask) {
        return vandq_u8(vshlq_u8(vld1q_u8(at), vdupq_n_s8(static_cast<int8_t>(by))), vdupq_n_u8(mask));
    }
    template <int OFFSET, int T, int R>
    static void q5(const uint8_t* const* weights, const int8_t* inputs, const int32_t* sums, Lanes (*out)[R]) {
        int32x4_t sum[R][4];
        for (int r = 0; r < R; r++)
            for (int part = 0; part < 4; part++) sum[r][part] = vdupq_n_s32(-OFFSET * sums[r]);
        const uint8_t* fifth = weights[0] + 256;
        add_half<false, R>(weights[0], inputs, [&](int k, int at) { return bits_of(fifth + at, 4 - k, 16); }, sum);
        add_half<true, R>(weights[0], inputs, [&](int k, int at) { return bits_of(fifth + at, -k, 16); }, sum);
        end<R>(sum, out[0]);
    }
    template <int BITS, int OFFSET, bool HIGH, int R>
    static void half(const uint8_t* weights, const int8_t* inputs, const int16_t* pairs, Lanes* out) {
        int32x4_t sum[R][4];
        for (int r = 0; r < R; r++)
            for (int part = 0; part < 4; part++) sum[r][part] = vdupq_n_s32(-OFFSET * (pairs[4 * r] + pairs[4 * r + 1]));
        const uint8_t* planes = weights + 256 + 64 * HIGH;
        auto above = [&](int k, int at) {
            return BITS == 6 ? bits_of(planes + at, k < 2 ? -2 * k : 8 - 2 * k, 48) : vdupq_n_u8(0);
        };
        add_half<HIGH, R>(weights, inputs, above, sum);
        end<R>(sum, out);
    }
    template <int BITS, int OFFSET, int T, int R>
    static void halves(const uint8_t* const* weights, const int8_t* inputs, const int16_t* pairs, Lanes (*first)[R],
                       Lanes (*last)[R]) {
        half<BITS, OFFSET, false, R>(weights[0], inputs, pairs, first[0]);
        half<BITS, OFFSET, true, R>(weights[0], inputs, pairs + 2, last[0]);
    }
};

}  // namespace
