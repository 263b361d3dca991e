// From the numbers of a file to packed weights.
#pragma once

#include <string>

#include "matrix.h"

namespace outrider {

// Pack [outputs, inputs] numbers of a format, by its name in formats.cpp. `target` is "same", or "q8_0", "q4_0", "f32",
// "bf16" to convert. Row i of the result is row order[i] of the source, if `order` is given. Throws
// std::invalid_argument where sizes do not fit.
Matrix pack(const uint8_t* data, size_t bytes, const std::string& source, const std::string& target, size_t outputs,
            size_t inputs, const int32_t* order, size_t threads);

// Row `output` in float32.
void unpack_row(const Matrix&, size_t output, float* out);

}  // namespace outrider
