// What all kernels are written with: the lanes of the instruction set, and a few functions over them.
#pragma once

#include <cmath>

#include "kernels.h"

#if defined(OUTRIDER_AVX512)
#include "lanes_avx512.h"
#elif defined(OUTRIDER_AVX2)
#include "lanes_avx2.h"
#elif defined(OUTRIDER_NEON)
#include "lanes_neon.h"
#else
#include "lanes_portable.h"
#endif

namespace {

using outrider::BLOCK;
using outrider::Inputs;
using outrider::Kind;
using outrider::Matrix;
using outrider::Path;
using outrider::Span;
using outrider::TILE;

constexpr float ROUNDING = 12582912.0f;  // 1.5 * 2^23: added to a small number it rounds it to the nearest whole one

// e^x = power * (1 + x + y * x^2), with the x that is left of it. Cephes' polynomial.
struct Reduced {
    Lanes x, y, power;
};

// Within the range of float32; NaN stays NaN.
Reduced reduced(Lanes x) {
    x = Lanes::min(Lanes::set(88.0f), Lanes::max(Lanes::set(-87.0f), x));
    const Lanes shifted = Lanes::fma(x, Lanes::set(1.44269504088896341f), Lanes::set(ROUNDING));
    const Lanes n = shifted - Lanes::set(ROUNDING);
    x = Lanes::fma(n, Lanes::set(-0.693359375f), x);
    x = Lanes::fma(n, Lanes::set(2.12194440e-4f), x);
    Lanes y = Lanes::set(1.9875691500e-4f);
    y = Lanes::fma(y, x, Lanes::set(1.3981999507e-3f));
    y = Lanes::fma(y, x, Lanes::set(8.3334519073e-3f));
    y = Lanes::fma(y, x, Lanes::set(4.1665795894e-2f));
    y = Lanes::fma(y, x, Lanes::set(1.6666665459e-1f));
    y = Lanes::fma(y, x, Lanes::set(5.0000001201e-1f));
    return {x, y, Lanes::power(shifted)};
}

// e^x to about 1 unit in the last place.
Lanes exponential(Lanes x) {
    const Reduced of = reduced(x);
    return Lanes::fma(of.y, of.x * of.x, of.x + Lanes::set(1.0f)) * of.power;
}

// tanh(x) to a few units in the last place: e^(2 x) - 1 keeps what is left of it near 0.
Lanes hyperbolic_tangent(Lanes x) {
    const Reduced of = reduced(x + x);
    const Lanes rest = Lanes::fma(of.y, of.x * of.x, of.x);
    const Lanes less_1 = Lanes::fma(rest, of.power, of.power - Lanes::set(1.0f));
    return less_1 / (less_1 + Lanes::set(2.0f));
}

Lanes capped(Lanes x, float cap) { return hyperbolic_tangent(x / Lanes::set(cap)) * Lanes::set(cap); }

// The last, incomplete lanes of x; the others are `fill`.
Lanes load_some(const float* x, size_t count, float fill) {
    float at[16];
    for (size_t i = 0; i < 16; i++) at[i] = i < count ? x[i] : fill;
    return Lanes::load(at);
}

}  // namespace
