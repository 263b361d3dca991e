// The part of the Python module that cuts texts into tokens.
#include "sentencepiece.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/vector.h>

namespace nb = nanobind;
using namespace nb::literals;
using namespace outrider;

namespace {

template <class Number>
using Numbers = nb::ndarray<const Number, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

template <class Number>
std::vector<Number> copied(const Numbers<Number>& array) {
    return {array.data(), array.data() + array.shape(0)};
}

}  // namespace

void add_sentencepiece(nb::module_& m) {
    nb::class_<SentencePiece>(m, "SentencePiece")
        .def(
            "__init__",
            [](SentencePiece* self, nb::bytes names, Numbers<uint64_t> ends, Numbers<float> scores,
               const std::vector<int32_t>& special, const std::vector<int32_t>& strips, bool prefix) {
                new (self) SentencePiece({names.c_str(), names.size()}, copied(ends), copied(scores), special, strips,
                                         prefix);
            },
            "names"_a, "ends"_a, "scores"_a, "special"_a, "strips"_a, "prefix"_a)
        .def(
            "encode",
            [](const SentencePiece& self, nb::bytes text) {
                nb::gil_scoped_release release;
                return self.encode({text.c_str(), text.size()});
            },
            "text"_a);
}
