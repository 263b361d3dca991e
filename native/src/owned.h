// Memory that Python owns.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <vector>

namespace outrider {

// [rows, columns].
template <class Number>
nanobind::ndarray<nanobind::numpy, Number, nanobind::ndim<2>> owned(std::vector<Number> numbers, size_t rows,
                                                                    size_t columns) {
    auto* memory = new std::vector<Number>(std::move(numbers));
    nanobind::capsule owner(memory, [](void* p) noexcept { delete static_cast<std::vector<Number>*>(p); });
    return {memory->data(), {rows, columns}, owner};
}

}  // namespace outrider
