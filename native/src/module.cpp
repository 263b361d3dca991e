// The Python module: packed weights, models, caches and passes; drafting.cpp has the rest. Everything that comes in is checked here or below.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include "drafting.h"
#include "experts.h"
#include "model.h"
#include "owned.h"
#include "pack.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace outrider;

namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<nb::numpy, float, nb::ndim<2>>;
using SharedMatrix = std::shared_ptr<const Matrix>;

std::shared_ptr<Matrix> packed(Bytes data, const std::string& source, const std::string& target, size_t outputs,
                               size_t inputs, const std::vector<int32_t>& order, size_t threads) {
    if (!order.empty() && order.size() != outputs) throw std::invalid_argument("an order of rows of another length");
    nb::gil_scoped_release release;
    return std::make_shared<Matrix>(pack(data.data(), data.size(), source, target, outputs, inputs,
                                         order.empty() ? nullptr : order.data(), threads));
}

// One linear over [tokens, inputs], for tests: [tokens, outputs].
nb::ndarray<nb::numpy, float> multiply(const Matrix& matrix, nb::ndarray<const float, nb::ndim<2>, nb::c_contig> x,
                                       const std::string& set) {
    const Kernels* kernels = find_kernels(set.c_str());
    if (!kernels || x.shape(1) != matrix.inputs) throw std::invalid_argument("another instruction set or size");
    Inputs in;
    const size_t tokens = x.shape(0), wide = matrix.tiles * TILE;
    in.resize(tokens, matrix.inputs, Inputs::Needs() |= matrix);
    for (size_t token = 0; token < tokens; token++) {
        const float* from = x.data() + token * matrix.inputs;
        if (matrix.quantised()) kernels->quantise(from, matrix.inputs, in, 0, token);
        for (size_t i = 0; !matrix.quantised() && i < in.blocks * BLOCK; i++)
            in.plain[(i / BLOCK * tokens + token) * BLOCK + i % BLOCK] = i < matrix.inputs ? from[i] : 0;
    }
    auto* out = new std::vector<float>(tokens * wide);
    nb::capsule owner(out, [](void* p) noexcept { delete static_cast<std::vector<float>*>(p); });
    kernels->multiply(matrix, 0, matrix.tiles, matrix.tiles, in, 0, tokens, out->data(), wide);
    return {out->data(), {tokens, matrix.outputs}, owner, {static_cast<int64_t>(wide), 1}};
}

// `shared` has the gate, up and down projection of the expert that every token asks, or nothing.
Experts experts_of(Linear router, const std::vector<Linear>& gates, const std::vector<Linear>& ups,
                   const std::vector<Linear>& downs, const std::vector<Linear>& shared, size_t inner, size_t used,
                   bool normalised) {
    if (gates.size() != ups.size() || gates.size() != downs.size() || (!shared.empty() && shared.size() != 3))
        throw std::invalid_argument("experts that lack a part");
    Experts experts;
    experts.router = std::move(router);
    for (size_t i = 0; i < gates.size(); i++) experts.each.push_back({gates[i], ups[i], downs[i]});
    if (!shared.empty()) experts.shared = {shared[0], shared[1], shared[2]};
    experts.inner = inner, experts.used = used, experts.normalised = normalised;
    return experts;
}

// A cache, and the memory of its passes' results.
struct Session {
    std::shared_ptr<Model> model;
    std::unique_ptr<Cache> cache;
    Result result;

    Session(std::shared_ptr<Model> of, size_t rows, size_t capacity, bool half)
        : model(std::move(of)), cache(model->new_cache(rows, capacity, half)) {}
};

nb::tuple forward(Session& session, const std::vector<size_t>& rows, const std::vector<size_t>& kept,
                  const std::vector<std::vector<int32_t>>& parents, const std::vector<std::vector<int32_t>>& tokens,
                  const std::vector<size_t>& wanted, const std::vector<size_t>& hidden, size_t most_probable) {
    if (rows.size() != kept.size() || rows.size() != parents.size() || rows.size() != tokens.size() ||
        rows.size() != wanted.size())
        throw std::invalid_argument("lists of different lengths");
    std::vector<Row> work;
    for (size_t i = 0; i < rows.size(); i++) work.push_back({rows[i], kept[i], parents[i], tokens[i], wanted[i]});
    Top top;
    {
        nb::gil_scoped_release release;
        session.model->forward(*session.cache, work, hidden, session.result);
        if (most_probable) top = session.model->top(session.result, most_probable);  // while the threads are awake
    }
    Result& result = session.result;
    nb::list states;
    for (auto& layer : result.hidden)  // of its own: drafters keep them
        states.append(owned(std::move(layer), result.tokens, session.model->hidden_size()));
    auto* held = new std::shared_ptr<std::vector<float>>(result.logits);
    nb::capsule owner(held, [](void* p) noexcept { delete static_cast<std::shared_ptr<std::vector<float>>*>(p); });
    nb::object tops = nb::none();
    if (most_probable)
        tops = nb::make_tuple(owned(std::move(top.tokens), result.wanted, most_probable),
                              owned(std::move(top.probabilities), result.wanted, most_probable));
    return nb::make_tuple(Floats((*held)->data(), {result.wanted, session.model->vocabulary()}, owner), states, tops);
}

}  // namespace

void add_heads(nb::module_& m);          // head_module.cpp
void add_sentencepiece(nb::module_& m);  // sentencepiece_module.cpp

NB_MODULE(_core, m) {
    // Memories that live as long as the program are no leak, and no news to who ends it.
    nb::set_leak_warnings(false);
    bind_drafting(m);
    m.def("instruction_sets", [] {
        nb::list names;
        for (auto name = kernel_names(); *name; name++) names.append(*name);
        return names;
    });
    nb::class_<Matrix>(m, "Matrix")
        .def_ro("outputs", &Matrix::outputs)
        .def_ro("inputs", &Matrix::inputs)
        .def_prop_ro("bytes", [](const Matrix& matrix) { return matrix.memory.size(); })
        .def("numbers", [](const Matrix& matrix) {  // float32 [outputs, inputs]
            std::vector<float> found(matrix.outputs * matrix.inputs);
            for (size_t i = 0; i < matrix.outputs; i++) unpack_row(matrix, i, found.data() + i * matrix.inputs);
            return owned(std::move(found), matrix.outputs, matrix.inputs);
        });
    m.def("pack", &packed, "data"_a, "source"_a, "target"_a, "outputs"_a, "inputs"_a, "order"_a, "threads"_a);
    m.def("multiply", &multiply, "matrix"_a, "x"_a, "instruction_set"_a);
    nb::class_<Linear>(m, "Linear").def(
        "__init__",
        [](Linear* self, std::shared_ptr<Matrix> matrix, std::vector<float> bias) {
            new (self) Linear{std::move(matrix), std::move(bias)};
        },
        "matrix"_a, "bias"_a);
    nb::class_<Experts>(m, "Experts").def(
        "__init__", [](Experts* self, Linear router, const std::vector<Linear>& gates, const std::vector<Linear>& ups,
                       const std::vector<Linear>& downs, const std::vector<Linear>& shared, size_t inner, size_t used,
                       bool normalised) {
            new (self) Experts(experts_of(std::move(router), gates, ups, downs, shared, inner, used, normalised));
        },
        "router"_a, "gates"_a, "ups"_a, "downs"_a, "shared"_a, "inner"_a, "used"_a, "normalised"_a);
    nb::class_<Layer>(m, "Layer")
        .def(nb::init<>())
        .def_rw("attention_norm", &Layer::attention_norm)
        .def_rw("mlp_norm", &Layer::mlp_norm)
        .def_rw("attention_post_norm", &Layer::attention_post_norm)
        .def_rw("mlp_post_norm", &Layer::mlp_post_norm)
        .def_rw("query_norm", &Layer::query_norm)
        .def_rw("key_norm", &Layer::key_norm)
        .def_rw("query", &Layer::query)
        .def_rw("key", &Layer::key)
        .def_rw("value", &Layer::value)
        .def_rw("output", &Layer::output)
        .def_rw("gate", &Layer::gate)
        .def_rw("up", &Layer::up)
        .def_rw("down", &Layer::down)
        .def_rw("sinks", &Layer::sinks)
        .def_rw("experts", &Layer::experts)
        .def_rw("window", &Layer::window)
        .def_rw("rotation", &Layer::rotation);
    nb::enum_<Activation>(m, "Activation")
        .value("silu", Activation::silu)
        .value("gelu", Activation::gelu)
        .value("clamped", Activation::clamped);
    nb::class_<Rotation>(m, "Rotation")
        .def(
            "__init__",
            [](Rotation* self, std::vector<float> frequencies, float scale) {
                new (self) Rotation{std::move(frequencies), scale};
            },
            "frequencies"_a, "scale"_a = 1.0f);
    nb::class_<Shape>(m, "Shape")
        .def(nb::init<>())
        .def_rw("hidden", &Shape::hidden)
        .def_rw("heads", &Shape::heads)
        .def_rw("key_heads", &Shape::key_heads)
        .def_rw("head_size", &Shape::head_size)
        .def_rw("inner", &Shape::inner)
        .def_rw("vocabulary", &Shape::vocabulary)
        .def_rw("epsilon", &Shape::epsilon)
        .def_rw("rotations", &Shape::rotations)
        .def_rw("activation", &Shape::activation)
        .def_rw("embedding_scale", &Shape::embedding_scale)
        .def_rw("residual_scale", &Shape::residual_scale)
        .def_rw("logit_divisor", &Shape::logit_divisor)
        .def_rw("attention_scale", &Shape::attention_scale)
        .def_rw("norms_last", &Shape::norms_last)
        .def_rw("query_slope", &Shape::query_slope)
        .def_rw("query_step", &Shape::query_step)
        .def_rw("attention_cap", &Shape::attention_cap)
        .def_rw("logit_cap", &Shape::logit_cap);
    nb::class_<Model>(m, "Model")
        .def(
            "__init__",
            [](Model* self, Shape shape, std::vector<Layer> layers, std::vector<float> norm,
               std::shared_ptr<Matrix> embedding, std::shared_ptr<Matrix> head, const std::string& set,
               size_t threads) {
                new (self) Model(std::move(shape), std::move(layers), std::move(norm), std::move(embedding),
                                 std::move(head), set, threads);
            },
            "shape"_a, "layers"_a, "norm"_a, "embedding"_a, "head"_a, "instruction_set"_a, "threads"_a)
        .def_prop_ro("embedding", [](const Model& model) { return std::const_pointer_cast<Matrix>(model.embedding()); })
        .def_prop_ro("instruction_set", &Model::set)
        .def_prop_ro("threads", &Model::threads);
    nb::class_<Session>(m, "Session")
        .def(nb::init<std::shared_ptr<Model>, size_t, size_t, bool>(), "model"_a, "rows"_a, "capacity"_a, "half"_a)
        .def("forward", &forward, "rows"_a, "kept"_a, "parents"_a, "tokens"_a, "wanted"_a, "hidden"_a,
             "most_probable"_a = 0)
        .def(
            "copy",
            [](Session& self, size_t row, size_t source, size_t count) { self.cache->copy_row(row, source, count); },
            "row"_a, "source"_a, "count"_a)
        .def(
            "move",
            [](Session& self, size_t row, const std::vector<int32_t>& sources, size_t target) {
                self.cache->move(row, sources.data(), sources.size(), target);
            },
            "row"_a, "sources"_a, "target"_a);
    add_heads(m);
    add_sentencepiece(m);
}
