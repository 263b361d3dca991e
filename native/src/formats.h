// The formats of weights in files: blocks of numbers as GGUF has them, and how a block is read.
#pragma once

#include <string>

#include "matrix.h"

namespace outrider {

// A format by the name of GGUF's type in small letters.
struct Format {
    const char* name;
    Kind kind;
    size_t inputs, bytes;  // of a block; 1 number where the weights are not quantised
    size_t bits;           // of a packed number
};

const Format& format_of(const std::string& name);  // throws std::invalid_argument
const Format& format_of(Kind kind);

// 32 numbers of one output. A weight is scale * (number - offset) + minimum; of the K formats scale and minimum are
// multiplied with a whole number, of 16 inputs each or, where the two are equal, of all 32.
struct Part {
    uint8_t numbers[BLOCK] = {};
    uint16_t scale = 0, minimum = 0;            // float16; the scale of MX4 is a byte
    uint8_t scales[2] = {}, minimums[2] = {};   // the scales of Q3K and Q6K plus 128
};

// Block `block` of 32 inputs, of a row in the format of a quantised kind.
Part read_part(Kind kind, const uint8_t* row, size_t block);
// Several of them, from block `first` on.
void read_parts(Kind kind, const uint8_t* row, size_t first, size_t count, Part* parts);
// The weights of a part, in float32.
void values_of(const Part& part, Kind kind, float* out);

OUTRIDER_INLINE uint16_t read16(const uint8_t* at) {
    uint16_t value;
    std::memcpy(&value, at, 2);
    return value;
}

}  // namespace outrider
