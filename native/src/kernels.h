// The functions that exist once for each instruction set. All sets compute the same bits.
#pragma once

#include "matrix.h"

namespace outrider {

// Keys and values of a row and key head, in stretches of SLOTS. Keys of a stretch: [block of 16 slots][head size][16].
// Values: [slot][padded head size].
struct Span {
    static constexpr size_t SLOTS = 64;

    const uint8_t* keys;
    const uint8_t* values;
    size_t stride;      // bytes from one stretch to the next
    bool half;          // float16, else float32
    size_t head_size;
    size_t value_size;  // head size padded to 16
};

// The way of a token through its row: slots first to straight - 1, then those of `tail`.
struct Path {
    size_t first, straight;
    const int32_t* tail;
    size_t tail_size;

    size_t size() const { return straight - first + tail_size; }
};

// What gates an MLP; gelu is the one with tanh. Clamped is gpt-oss's: min(x, 7) sigmoid(1.702 min(x, 7)), and what it
// gates is limited to -7 and 7, plus 1.
enum class Activation { silu, gelu, clamped };

constexpr size_t MOST_QUERIES = 24;  // that one call of attend takes

struct Kernels {
    const char* name;
    // Outputs of `tiles` tiles for `count` tokens, out[token * stride + output]. Meanwhile the tiles that this thread
    // will probably multiply next are fetched, `next` tiles behind these; at least `tiles`.
    void (*multiply)(const Matrix&, size_t tile, size_t tiles, size_t next, const Inputs&, size_t first, size_t count,
                     float* out, size_t stride);
    // One token's numbers as inputs; what is missing to a whole block is 0.
    void (*quantise)(const float* x, size_t size, Inputs&, size_t first_block, size_t token);
    void (*norm)(const float* x, const float* weight, size_t size, float epsilon, float* out);
    void (*rotate)(float* head, const float* cosines, const float* sines, size_t half);
    void (*gate)(Activation, float* gate, const float* up, size_t size);  // gate = activation(gate) * up
    void (*cap)(float* x, size_t size, float cap);                        // x = cap * tanh(x / cap)
    // Attention of `count` queries over one key head. `scratch` has count * (slots + 32 + value_size) numbers. Scores
    // are capped unless `cap` is 0. A query's sink is a score that adds no value; null is none.
    void (*attend)(const Span&, size_t count, const float* const* queries, const Path* const* paths, size_t slots,
                   float scale, float cap, const float* sinks, float* scratch, float* const* outputs);
    void (*to_halves)(const float* x, size_t size, uint16_t* out);
    // max(x), and the sum of exp(x - max(x)).
    void (*exponentials)(const float* x, size_t size, float* largest, float* sum);
};

// The kernels of an instruction set by name; null where this processor or build lacks it.
const Kernels* find_kernels(const char* name);
// From the fastest to "portable"; the last entry is null.
const char* const* kernel_names();

}  // namespace outrider
