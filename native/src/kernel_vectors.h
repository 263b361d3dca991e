// What is done to the numbers of one token: rounding to 8 bits, norms, rotations, gates, exponentials.
#pragma once

#include "kernel_lanes.h"

namespace {

void quantise(const float* x, size_t size, Inputs& in, size_t first_block, size_t token) {
    for (size_t block = first_block; size; block++) {
        const size_t count = size < BLOCK ? size : BLOCK;
        const Lanes a = count >= 16 ? Lanes::load(x) : load_some(x, count, 0);
        const Lanes b = count >= 32 ? Lanes::load(x + 16) : load_some(x + 16, count > 16 ? count - 16 : 0, 0);
        const float most = Lanes::largest(Lanes::max(Lanes::absolute(a), Lanes::absolute(b)));
        const Lanes inverse = Lanes::set(most > 0 ? 127.0f / most : 0.0f);
        const Lanes up = a * inverse + Lanes::set(ROUNDING), low = b * inverse + Lanes::set(ROUNDING);
        const size_t at = block * in.tokens + token;
        up.store_low_bytes(in.quants(at));
        low.store_low_bytes(in.quants(at) + 16);
        // Whole numbers: their sum is exact. It is NaN where an input is NaN or infinite (0 * inf), and so is the scale.
        const float sum = Lanes::sum((up - Lanes::set(ROUNDING)) + (low - Lanes::set(ROUNDING)));
        in.sums[at] = sum == sum ? static_cast<int32_t>(sum) : 0;
        for (size_t i = 0; in.halved && i < 4; i++) {
            const int8_t* pair = in.quants(at) + 16 * (i / 2) + 2 * (i % 2);
            int pairs = 0;
            for (size_t k = 0; k < 4; k++) pairs += pair[4 * k] + pair[4 * k + 1];
            in.halves[4 * at + i] = static_cast<int16_t>(pairs);
        }
        in.scales[at] = sum == sum ? most / 127.0f : sum;
        in.shifts[at] = in.scales[at] * static_cast<float>(in.sums[at]);
        x += count;
        size -= count;
    }
}

void norm(const float* x, const float* weight, size_t size, float epsilon, float* out) {
    Lanes squares = Lanes::set(0);
    size_t i = 0;
    for (; i + 16 <= size; i += 16) squares = Lanes::fma(Lanes::load(x + i), Lanes::load(x + i), squares);
    if (i < size) {
        const Lanes rest = load_some(x + i, size - i, 0);
        squares = Lanes::fma(rest, rest, squares);
    }
    const float scale = 1.0f / std::sqrt(Lanes::sum(squares) / static_cast<float>(size) + epsilon);
    for (i = 0; i + 16 <= size; i += 16)
        (Lanes::load(x + i) * Lanes::set(scale) * Lanes::load(weight + i)).store(out + i);
    for (; i < size; i++) out[i] = x[i] * scale * weight[i];
}

// (a, b) -> (a cos - b sin, b cos + a sin), a and b the halves of the head (arXiv 2104.09864 as transformers has it).
void rotate(float* head, const float* cosines, const float* sines, size_t half) {
    size_t i = 0;
    for (; i + 16 <= half; i += 16) {
        const Lanes a = Lanes::load(head + i), b = Lanes::load(head + half + i);
        const Lanes c = Lanes::load(cosines + i), s = Lanes::load(sines + i);
        (a * c - b * s).store(head + i);
        (b * c + a * s).store(head + half + i);
    }
    for (; i < half; i++) {
        const float a = head[i], b = head[half + i];
        head[i] = a * cosines[i] - b * sines[i];
        head[half + i] = b * cosines[i] + a * sines[i];
    }
}

// x / (1 + e^-y), which is silu where y is x.
Lanes share_of(Lanes x, Lanes y) { return x / (Lanes::set(1) + exponential(Lanes::set(0) - y)); }

// gelu(x) is x / 2 * (1 + tanh(y / 2)), which is the same; y = 2 * sqrt(2 / pi) * (x + 0.044715 x^3).
Lanes twice_of_tanh(Lanes x) {
    const Lanes cubic = Lanes::fma(x * x * x, Lanes::set(0.044715f), x);
    return cubic * Lanes::set(1.5957691216057308f);
}

// With limits first, so that a NaN stays one.
Lanes clamped(Lanes x, Lanes up) {
    const Lanes limit = Lanes::set(7), one = Lanes::set(1);
    x = Lanes::min(limit, x);
    up = Lanes::max(Lanes::set(-7), Lanes::min(limit, up));
    return share_of(x, x * Lanes::set(1.702f)) * (up + one);
}

template <class F>
void each_gate(float* x, const float* up, size_t size, F activation) {
    size_t i = 0;
    for (; i + 16 <= size; i += 16) activation(Lanes::load(x + i), Lanes::load(up + i)).store(x + i);
    if (i < size) {
        float at[16];
        activation(load_some(x + i, size - i, 0), load_some(up + i, size - i, 0)).store(at);
        for (size_t j = 0; i + j < size; j++) x[i + j] = at[j];
    }
}

void gate(outrider::Activation activation, float* x, const float* up, size_t size) {
    switch (activation) {
        case outrider::Activation::silu:
            return each_gate(x, up, size, [](Lanes each, Lanes of) { return share_of(each, each) * of; });
        case outrider::Activation::gelu:
            return each_gate(x, up, size, [](Lanes each, Lanes of) { return share_of(each, twice_of_tanh(each)) * of; });
        case outrider::Activation::clamped: return each_gate(x, up, size, clamped);
    }
}

void cap(float* x, size_t size, float most) {
    size_t i = 0;
    for (; i + 16 <= size; i += 16) capped(Lanes::load(x + i), most).store(x + i);
    if (i < size) {
        float at[16];
        capped(load_some(x + i, size - i, 0), most).store(at);
        for (size_t j = 0; i + j < size; j++) x[i + j] = at[j];
    }
}

void to_halves(const float* x, size_t size, uint16_t* out) {
    size_t i = 0;
    for (; i + 16 <= size; i += 16) Lanes::load(x + i).store_half(out + i);
    if (i < size) {
        uint16_t at[16];
        load_some(x + i, size - i, 0).store_half(at);
        for (size_t j = 0; i + j < size; j++) out[i + j] = at[j];
    }
}

void exponentials(const float* x, size_t size, float* largest, float* sum) {
    Lanes most = Lanes::set(-INFINITY), total = Lanes::set(0);
    for (size_t i = 0; i < size; i += 16)
        most = Lanes::max(most, size - i < 16 ? load_some(x + i, size - i, -INFINITY) : Lanes::load(x + i));
    *largest = Lanes::largest(most);
    for (size_t i = 0; i + 16 <= size; i += 16)
        total = total + exponential(Lanes::load(x + i) - Lanes::set(*largest));
    *sum = Lanes::sum(total);
    if (const size_t rest = size % 16) {
        float at[16];
        exponential(load_some(x + size - rest, rest, 0) - Lanes::set(*largest)).store(at);
        for (size_t j = 0; j < rest; j++) *sum += at[j];
    }
}

}  // namespace
