// The library's own test, without Python: run it under sanitizers (make sanitize). It exits with the number of failures.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>

#include "experts.h"
#include "formats.h"
#include "joint.h"
#include "model.h"
#include "pack.h"
#include "pool.h"
#include "sentencepiece.h"

using namespace outrider;

namespace {

int failures = 0;
uint64_t digest = 0xcbf29ce484222325;  // of all logits (FNV-1a), so that another processor's can be compared

void digest_of(const std::vector<float>& numbers) {
    for (float x : numbers) {
        uint32_t bits;
        std::memcpy(&bits, &x, 4);
        digest = (digest ^ bits) * 0x100000001b3;
    }
}

void expect(bool holds, const std::string& what) {
    if (holds) return;
    failures++;
    std::printf("FAILED: %s\n", what.c_str());
}

template <class F>
void refuses(F f, const char* what) {
    try {
        f();
    } catch (const std::invalid_argument&) {
        return;
    }
    expect(false, std::string("not refused: ") + what);
}

bool in_files_alone(const std::string& kind) {  // and nothing is converted to it
    return kind != "q8_0" && kind != "q4_0" && kind != "f32" && kind != "bf16";
}

struct Made {
    std::mt19937 random{7};
    std::string kind, plain = "f32";

    std::vector<float> numbers(size_t count, float middle, float spread) {
        std::normal_distribution<float> draw(middle, spread);
        std::vector<float> found(count);
        for (float& x : found) x = draw(random);
        return found;
    }
    // Blocks of a format that files alone have: any bytes, with small float16 scales.
    std::shared_ptr<const Matrix> matrix_of_blocks(size_t outputs, size_t inputs) {
        const Format& format = format_of(kind);
        const size_t scales_at = kind == "q2_k" ? 80 : kind == "q3_k" ? 108 : kind == "q6_k" ? 208 : 0;
        std::vector<uint8_t> bytes;
        for (size_t block = 0; block < outputs * inputs / format.inputs; block++) {
            const size_t start = bytes.size();
            for (size_t i = 0; i < format.bytes; i++) bytes.push_back(uint8_t(random()));
            const uint32_t scale = (is_of_k(format.kind) ? 0x1000 : 0x2400) + random() % 0x400;
            const uint32_t least = (is_of_k(format.kind) ? 0x1400 : 0xb400) - random() % 0x400;
            if (format.kind == Kind::MX4)  // a byte has the exponent
                bytes[start] = uint8_t(120 + random() % 4);
            else
                put(bytes.data() + start + scales_at, scale);
            if (has_minimums(format.kind)) put(bytes.data() + start + scales_at + 2, least);
        }
        return std::make_shared<Matrix>(pack(bytes.data(), bytes.size(), kind, "same", outputs, inputs, nullptr, 2));
    }
    static void put(uint8_t* at, uint32_t half) { at[0] = half & 255, at[1] = uint8_t(half >> 8); }
    std::shared_ptr<const Matrix> matrix(size_t outputs, size_t inputs) {
        const bool of_files = in_files_alone(kind);
        if (of_files && inputs % format_of(kind).inputs == 0) return matrix_of_blocks(outputs, inputs);
        const std::vector<float> x = numbers(outputs * inputs, 0, 0.3f);
        // A copy of exactly this size, so that a sanitizer sees any step beyond it.
        const std::vector<uint8_t> bytes(reinterpret_cast<const uint8_t*>(x.data()),
                                         reinterpret_cast<const uint8_t*>(x.data() + x.size()));
        return std::make_shared<Matrix>(
            pack(bytes.data(), bytes.size(), "f32", of_files ? "q4_0" : kind, outputs, inputs, nullptr, 2));
    }
    Linear linear(size_t outputs, size_t inputs, bool bias = false) {
        return {matrix(outputs, inputs), bias ? numbers(outputs, 0, 0.1f) : std::vector<float>()};
    }
    Expert expert(size_t hidden, size_t inner, bool bias = false) {
        return {linear(inner, hidden, bias), linear(inner, hidden, bias), linear(hidden, inner, bias)};
    }
    // Two of five, and one that every token asks, which is wider.
    std::shared_ptr<Experts> experts(size_t hidden, size_t inner, bool bias = false) {
        auto made = std::make_shared<Experts>();
        for (int i = 0; i < 5; i++) made->each.push_back(expert(hidden, inner, bias));
        made->shared = expert(hidden, inner + 32);
        made->inner = inner, made->used = 2, made->normalised = kind != "bf16";
        std::swap(kind, plain);
        made->router = linear(6, hidden, bias);
        std::swap(kind, plain);
        return made;
    }
};

// What layers have beside those of Llama: caps, scales, norms of what is added, two rotations; or norms of whole queries;
// or sinks, biases everywhere, limits in the MLP, queries that grow, and norms behind rotations.
enum class Style { plain, mixed, capped, whole, sunk };

void set_apart(Shape& shape, std::vector<Layer>& layers, Made& made, Style style) {
    if (style == Style::plain || style == Style::mixed) return;
    const size_t queries = shape.heads * shape.head_size, keys = shape.key_heads * shape.head_size;
    if (style == Style::sunk) {
        shape.activation = Activation::clamped;
        shape.norms_last = true, shape.query_slope = 0.3f, shape.query_step = 4;
        for (Layer& layer : layers) {
            layer.sinks = made.numbers(shape.heads, 0, 1);
            for (Linear* linear : {&layer.gate, &layer.up, &layer.down})
                linear->bias = made.numbers(linear->matrix->outputs, 0, 1);
        }
        layers[0].experts = made.experts(shape.hidden, 64, true);
        return;
    }
    for (Layer& layer : layers) {
        layer.attention_post_norm = made.numbers(shape.hidden, 1, 0.1f);
        layer.mlp_post_norm = made.numbers(shape.hidden, 1, 0.1f);
        if (style == Style::capped) continue;
        layer.attention_norm.clear(), layer.mlp_norm.clear();
        layer.query_norm = made.numbers(queries, 1, 0.1f);
        layer.key_norm = made.numbers(keys, 1, 0.1f);
    }
    if (style == Style::whole) return;
    shape.activation = Activation::gelu;
    shape.embedding_scale = 3, shape.residual_scale = 0.5f, shape.logit_divisor = 2;
    shape.attention_scale = 0.3f, shape.attention_cap = 2, shape.logit_cap = 3;
    shape.rotations.push_back({{0.5f, 0.1f}, 1.2f});
    layers[0].rotation = 1, layers[0].window = 5;
}

std::unique_ptr<Model> make(const std::string& kind, size_t head_size, size_t window, const char* set, size_t threads,
                            Style style = Style::plain) {
    Made made;
    made.kind = kind;
    Shape shape;
    shape.hidden = !in_files_alone(kind) ? 40 : is_of_k(format_of(kind).kind) ? 256 : 64;
    shape.heads = 6, shape.key_heads = 2, shape.head_size = head_size;
    shape.inner = 72, shape.vocabulary = 101, shape.epsilon = 1e-5f;
    shape.rotations.resize(1);
    for (size_t i = 0; i < head_size / 2; i++)
        shape.rotations[0].frequencies.push_back(1.0f / std::pow(10.0f, 0.3f * i));
    const size_t hidden = shape.hidden;
    const size_t queries = 6 * head_size, keys = 2 * head_size;
    std::vector<Layer> layers(2);
    for (Layer& layer : layers) {
        layer.attention_norm = made.numbers(hidden, 1, 0.1f);
        layer.mlp_norm = made.numbers(hidden, 1, 0.1f);
        layer.query_norm = made.numbers(head_size, 1, 0.1f);
        layer.key_norm = made.numbers(head_size, 1, 0.1f);
        layer.query = made.linear(queries, hidden, true);
        layer.key = made.linear(keys, hidden, true);
        layer.value = made.linear(keys, hidden);
        layer.output = made.linear(hidden, queries, true);
        layer.gate = made.linear(72, hidden);
        layer.up = made.linear(72, hidden);
        layer.down = made.linear(hidden, 72);
        layer.window = window;
    }
    if (style == Style::mixed) layers[0].experts = made.experts(hidden, kind == "q4_1" ? 64 : 40);
    set_apart(shape, layers, made, style);
    auto embedding = made.matrix(101, hidden);
    return std::make_unique<Model>(shape, layers, made.numbers(hidden, 1, 0.1f), embedding, embedding, set, threads);
}

std::vector<int32_t> chain(size_t count) {
    std::vector<int32_t> parents;
    for (size_t i = 0; i < count; i++) parents.push_back(static_cast<int32_t>(i) - 1);
    return parents;
}

std::vector<float> logits_of(const Model& model, Cache& cache, const std::vector<Row>& rows,
                             const std::vector<size_t>& hidden = {0, 1, 2}) {
    Result result;
    model.forward(cache, rows, hidden, result);
    const Top top = model.top(result, 5);
    for (size_t row = 0; row < result.wanted; row++) {
        const float* x = result.logits->data() + row * model.vocabulary();
        expect(top.tokens[5 * row] == std::max_element(x, x + model.vocabulary()) - x, "another token is the largest");
    }
    return {result.logits->begin(), result.logits->begin() + static_cast<long>(result.wanted * model.vocabulary())};
}

// A text at once, and the same in pieces, beside another row, and as a branch of a tree that is kept.
void check_shapes(const Model& model, bool half, const std::vector<float>& expected,
                  const std::vector<int32_t>& tokens) {
    const std::string what = std::string(model.set()) + (half ? " float16" : " float32");
    auto cache = model.new_cache(3, 64, half);
    const std::vector<float> whole = logits_of(model, *cache, {{1, 0, chain(tokens.size()), tokens, tokens.size()}});
    expect(expected.empty() || whole == expected, what + ": other bits than the portable kernels");
    std::vector<float> pieces;
    for (size_t at = 0; at < 30; at += 10) {
        const std::vector<int32_t> part(tokens.begin() + static_cast<long>(at), tokens.begin() + static_cast<long>(at) + 10);
        const std::vector<float> found =
            logits_of(model, *cache, {{2, at, chain(10), part, 10}, {0, 0, chain(3), {5, 6, 7}, 0}});
        pieces.insert(pieces.end(), found.begin(), found.end());
    }
    const size_t width = model.vocabulary();
    expect(std::equal(pieces.begin(), pieces.end(), whole.begin()), what + ": other bits in pieces");
    // Wanted tokens alone, where the last layer makes of the others only keys and values.
    std::vector<float> wanted;
    auto other = model.new_cache(2, 64, half);
    for (size_t at = 0; at < 30; at += 10) {
        const std::vector<int32_t> part(tokens.begin() + static_cast<long>(at), tokens.begin() + static_cast<long>(at) + 10);
        const std::vector<float> found =
            logits_of(model, *other, {{0, 0, chain(3), {5, 6, 7}, 0}, {1, at, chain(10), part, at ? size_t(2) : 0}}, {});
        wanted.insert(wanted.end(), found.begin(), found.end());
    }
    expect(std::equal(wanted.begin(), wanted.begin() + static_cast<long>(2 * width),
                      whole.begin() + static_cast<long>(18 * width)) &&
               std::equal(wanted.begin() + static_cast<long>(2 * width), wanted.end(),
                          whole.begin() + static_cast<long>(28 * width)),
           what + ": other bits of wanted tokens alone");
    // Behind 30 tokens the true next ones, each after two that lead elsewhere.
    std::vector<int32_t> nodes, parents, kept;
    for (size_t i = 30; i < tokens.size(); i++) {
        const int32_t above = kept.empty() ? -1 : kept.back() - 30;
        for (int32_t token : {1, 2, tokens[i]}) nodes.push_back(token), parents.push_back(above);
        kept.push_back(static_cast<int32_t>(30 + nodes.size() - 1));
    }
    const std::vector<float> tree = logits_of(model, *cache, {{2, 30, parents, nodes, nodes.size()}});
    for (size_t i = 0; i < kept.size(); i++)
        expect(std::equal(tree.begin() + static_cast<long>(width) * (kept[i] - 30),
                          tree.begin() + static_cast<long>(width) * (kept[i] - 29),
                          whole.begin() + static_cast<long>(width * (30 + i))),
               what + ": other bits in a tree");
    cache->move(2, kept.data(), 3, 30);
    const std::vector<int32_t> rest(tokens.begin() + 33, tokens.end());
    const std::vector<float> after = logits_of(model, *cache, {{2, 33, chain(rest.size()), rest, rest.size()}});
    expect(std::equal(after.begin(), after.end(), whole.begin() + static_cast<long>(width * 33)),
           what + ": other bits behind a branch that was kept");
}

// All instruction sets, beside the portable one.
void check_model(const char* kind, size_t head_size, bool half, Style style, const std::vector<int32_t>& tokens) {
    const size_t window = half ? 0 : 7;
    auto portable = make(kind, head_size, window, "portable", 1, style);
    auto cache = portable->new_cache(2, 50, half);
    const auto expected = logits_of(*portable, *cache, {{1, 0, chain(37), tokens, 37}});
    digest_of(expected);
    for (auto set = kernel_names(); *set; set++)
        check_shapes(*make(kind, head_size, window, *set, 3, style), half, expected, tokens);
}

// Experts whose parts do not fit one another, or that a token would ask more of than there are.
void check_refused_experts() {
    const auto refuses_after = [](const char* what, auto change) {
        Made made;
        made.kind = "q8_0";
        Shape shape;
        shape.hidden = 32, shape.heads = shape.key_heads = 1, shape.head_size = 16, shape.inner = 32;
        shape.vocabulary = 9, shape.epsilon = 1e-5f;
        Layer layer;
        layer.rotation = -1;
        layer.attention_norm = layer.mlp_norm = made.numbers(32, 1, 0.1f);
        layer.query = layer.key = layer.value = made.linear(16, 32);
        layer.output = made.linear(32, 16);
        layer.experts = made.experts(32, 40);
        change(*layer.experts, made);
        auto embedding = made.matrix(9, 32);
        const auto build = [&] { Model(shape, {layer}, layer.mlp_norm, embedding, embedding, "portable", 1); };
        what ? refuses(build, what) : build();
    };
    refuses_after(nullptr, [](Experts&, Made&) {});
    refuses_after("no expert used", [](Experts& of, Made&) { of.used = 0; });
    refuses_after("more experts than there are", [](Experts& of, Made&) { of.used = 6; });
    refuses_after("no experts", [](Experts& of, Made&) { of.each.clear(); });
    refuses_after("experts of no width", [](Experts& of, Made&) { of.inner = 0; });
    refuses_after("another width", [](Experts& of, Made&) { of.inner = 48; });
    refuses_after("an expert of another width", [](Experts& of, Made& made) { of.each[3] = made.expert(32, 48); });
    refuses_after("an expert without weights", [](Experts& of, Made&) { of.each[4].up.matrix = nullptr; });
    refuses_after("a bias of another width", [](Experts& of, Made&) { of.each[4].up.bias.resize(39); });
    refuses_after("a bias for other experts", [](Experts& of, Made&) { of.router.bias.resize(5); });
    refuses_after("a router for fewer experts", [](Experts& of, Made&) { of.shared = {}; });
    refuses_after("a router in 8 bits", [](Experts& of, Made& made) { of.router = made.linear(6, 32); });
    refuses_after("a router of another width", [](Experts& of, Made& made) { of.router = made.linear(6, 40); });
    refuses_after("a shared expert without weights", [](Experts& of, Made&) { of.shared.down.matrix = nullptr; });
    refuses_after("an expert of another type", [](Experts& of, Made& made) {
        made.kind = "q4_0";
        of.each[2] = made.expert(32, 40);
    });
}

void check_refusals() {
    auto model = make("q8_0", 16, 0, "portable", 1);
    auto cache = model->new_cache(2, 20, true);
    Result result;
    auto run = [&](Row row) { return [&, row] { model->forward(*cache, {row}, {}, result); }; };
    refuses(run({2, 0, {-1}, {1}, 1}), "a row that is not there");
    refuses(run({0, 20, {-1}, {1}, 1}), "more than the capacity");
    refuses(run({0, size_t(-1), {-1}, {1}, 1}), "more than any capacity");
    refuses(run({0, 0, {0}, {1}, 1}), "a token that is its own parent");
    refuses(run({0, 0, {-1}, {101}, 1}), "a token beyond the vocabulary");
    refuses(run({0, 0, {-1}, {-1}, 1}), "a negative token");
    refuses(run({0, 0, {-1}, {1, 2}, 1}), "more tokens than parents");
    refuses([&] { model->new_cache(size_t(1) << 40, size_t(1) << 40, true); }, "an endless cache");
    const int32_t sources[] = {25};
    refuses([&] { cache->move(0, sources, 1, 0); }, "a move from beyond the capacity");
    const uint8_t bytes[34] = {};
    refuses([&] { pack(bytes, 34, "q8_0", "same", 2, 32, nullptr, 1); }, "weights that are too short");
    refuses([&] { pack(bytes, 34, "f32", "same", size_t(1) << 62, 4, nullptr, 1); }, "weights that overflow");
    refuses([&] { pack(bytes, 18, "q4_k", "same", 1, 32, nullptr, 1); }, "an eighth of a block");
    refuses([&] { pack(bytes, 34, "q8_0", "q6_k", 1, 32, nullptr, 1); }, "a format to which nothing is converted");
    const uint8_t scaled[34] = {255}, small[34] = {0, 1};
    refuses([&] { pack(scaled, 34, "mxfp4", "same", 1, 64, nullptr, 1); }, "a scale that is no number");
    refuses([&] { pack(small, 34, "mxfp4", "f32", 2, 32, nullptr, 1); }, "a scale below those that are computed");
    pack(bytes, 34, "mxfp4", "same", 2, 32, nullptr, 1);
    refuses([&] { pack(bytes, 34, "q9_0", "same", 1, 32, nullptr, 1); }, "an unknown format");
}

void check_shape_refusals() {
    auto refused = [](auto change, const char* what) {
        Made made;
        made.kind = "f32";
        Shape shape;
        shape.hidden = 16, shape.heads = shape.key_heads = 1, shape.head_size = 16, shape.inner = 16;
        shape.vocabulary = 20, shape.epsilon = 1e-5f;
        Layer layer;
        layer.rotation = -1;
        for (Linear* linear : {&layer.query, &layer.key, &layer.value, &layer.output, &layer.gate, &layer.up, &layer.down})
            *linear = made.linear(16, 16);
        auto embedding = made.matrix(20, 16);
        auto build = [&] { Model(shape, {layer}, made.numbers(16, 1, 0.1f), embedding, embedding, "portable", 1); };
        build();
        change(shape, layer);
        refuses(build, what);
    };
    refused([](Shape&, Layer& layer) { layer.rotation = 0; }, "a rotation that is not there");
    refused([](Shape&, Layer& layer) { layer.rotation = -2; }, "a negative rotation");
    refused([](Shape&, Layer& layer) { layer.mlp_post_norm.resize(15); }, "a norm that is too short");
    refused([](Shape&, Layer& layer) { layer.query_norm.resize(16); }, "a norm of queries alone");
    refused([](Shape& shape, Layer&) { shape.query_step = 0; }, "positions in steps of 0");
    refused([](Shape& shape, Layer&) { shape.norms_last = true; }, "norms that are not there, behind rotations");
    refused([](Shape&, Layer& layer) { layer.sinks.resize(2); }, "more sinks than heads");
    refused([](Shape&, Layer& layer) { layer.up.bias.resize(15); }, "a bias of another width");
    refused([](Shape&, Layer& layer) { layer.query_norm.resize(8), layer.key_norm.resize(8); }, "norms of half heads");
    refused([](Shape& shape, Layer&) { shape.rotations = {{std::vector<float>(9), 1}}; }, "more pairs than a head has");
    refused([](Shape& shape, Layer&) { shape.logit_divisor = 0; }, "logits divided by 0");
    refused([](Shape& shape, Layer&) { shape.embedding_scale = std::nanf(""); }, "a scale of no number");
    refused([](Shape& shape, Layer&) { shape.attention_cap = -1; }, "a negative cap");
    refused([](Shape& shape, Layer&) { shape.logit_cap = INFINITY; }, "an infinite cap");
}

// Against double precision; a NaN stays one, and what is infinite is as good as very large.
void check_activations() {
    const Kernels& kernels = *find_kernels("portable");
    std::vector<float> x;
    for (float each = -30; each < 30; each += 0.37f) x.push_back(each), x.push_back(each * 1e-3f), x.push_back(each * 100);
    std::vector<float> gelu = x, silu = x, capped = x, clamped = x;
    const std::vector<float> ones(x.size(), 1);
    kernels.gate(Activation::gelu, gelu.data(), ones.data(), x.size());
    kernels.gate(Activation::silu, silu.data(), ones.data(), x.size());
    kernels.gate(Activation::clamped, clamped.data(), x.data(), x.size());
    kernels.cap(capped.data(), x.size(), 7);
    const auto near = [](float found, double expected) {
        return std::abs(found - expected) <= 1e-6 * std::abs(expected) + 1e-30;
    };
    for (size_t i = 0; i < x.size(); i++) {
        const double at = x[i], inner = 0.7978845608028654 * (at + 0.044715 * at * at * at);
        if (at > -5)  // far below, what is left is the rounding of a very small number
            expect(std::abs(gelu[i] - at / (1 + std::exp(-2 * inner))) <= 2e-6 * std::abs(at), "gelu is another number");
        expect(std::abs(silu[i] - at / (1 + std::exp(-at))) <= 1e-6 * std::abs(at), "silu is another number");
        const double gate = std::min(at, 7.0), up = std::max(-7.0, std::min(at, 7.0));
        expect(near(clamped[i], gate / (1 + std::exp(-1.702 * gate)) * (up + 1)) || at < -5, "clamped is another number");
        expect(near(capped[i], 7 * std::tanh(at / 7)), "a cap is another number");
    }
    float strange[3] = {std::nanf(""), INFINITY, -INFINITY};
    kernels.cap(strange, 3, 7);
    expect(std::isnan(strange[0]) && strange[1] == 7 && strange[2] == -7, "a cap of what is no number");
    float none[2] = {std::nanf(""), 1};
    const float ups[2] = {1, std::nanf("")};
    kernels.gate(Activation::clamped, none, ups, 2);
    expect(std::isnan(none[0]) && std::isnan(none[1]), "a limit of what is no number");
}

// A weight that is no number shows in every product that it is a part of, whatever it is packed in.
void check_weights_that_are_no_numbers() {
    const size_t outputs = 20, inputs = 64;
    for (float bad : {std::nanf(""), INFINITY, -INFINITY})
        for (const char* kind : {"f32", "bf16", "q8_0", "q4_0"}) {
            std::vector<float> numbers(outputs * inputs, 0.5f);
            numbers[3 * inputs + 40] = bad;
            std::vector<uint8_t> bytes(numbers.size() * 4);
            std::memcpy(bytes.data(), numbers.data(), bytes.size());
            const Matrix m = pack(bytes.data(), bytes.size(), "f32", kind, outputs, inputs, nullptr, 1);
            std::vector<float> row(inputs);
            for (size_t output = 0; output < outputs; output++) {
                unpack_row(m, output, row.data());
                expect(std::isfinite(row[40]) == (output != 3), std::string("a weight of no number in ") + kind);
                expect(std::isfinite(row[0]), std::string("a weight in another block than one of no number in ") + kind);
            }
        }
}

// Several callers at once, each with work of many small pieces.
void check_pool() {
    std::vector<std::thread> callers;
    std::atomic<size_t> total{0};
    for (int caller = 0; caller < 4; caller++)
        callers.emplace_back([&] {
            for (size_t round = 0; round < 500; round++)
                Pool::shared().run(1 + round % 37, 3, [&](size_t, size_t) { total.fetch_add(1); });
        });
    for (std::thread& caller : callers) caller.join();
    size_t expected = 0;
    for (size_t round = 0; round < 500; round++) expected += 4 * (1 + round % 37);
    expect(total == expected, "pieces were lost or done twice");
}

// The end of a text in its automaton, against a search through the text; and through the loss of the older half.
void check_automaton(std::mt19937& random) {
    for (size_t most : {500, 20}) {
        Automaton automaton(most);
        std::vector<int64_t> text;
        for (int i = 0; i < 200; i++) {
            if (random() % 20 == 0) automaton.append_boundary(), text.push_back(-1 - i);
            else text.push_back(static_cast<int64_t>(random() % 3)), automaton.extend({text.back()});
            const std::vector<int64_t> held(text.end() - static_cast<ptrdiff_t>(automaton.tokens()), text.end());
            size_t longest = 0;
            for (size_t end = 1; end < held.size(); end++) {
                size_t same = 0;
                while (same < end && held[end - 1 - same] == held[held.size() - 1 - same]) same++;
                longest = std::max(longest, same);
            }
            expect(automaton.match().length == longest, "another match than a search finds");
            for (Cursor at = automaton.match(); automaton.shorter(at);)
                for (const Follower& each : automaton.followers(at)) {
                    Cursor longer = at;
                    expect(automaton.step(longer, each.token) && longer.state == each.state, "a follower leads elsewhere");
                }
        }
        refuses([&] { automaton.extend({1, -1}); }, "a negative token");
        refuses([&] { automaton.width({static_cast<uint32_t>(automaton.states()), 1}); }, "a cursor of another automaton");
    }
    refuses([] { Automaton(1); }, "an automaton for one token");
}

// Trees over random histories: best first, within their size, and none of it beyond any memory (the sanitizers look).
void check_lookups(std::mt19937& random) {
    auto frozen = std::make_shared<const Frozen>(std::vector<uint64_t>{1, 2}, std::vector<uint8_t>{3, 0},
                                                 std::vector<uint32_t>{0, 2, 2}, std::vector<uint32_t>{4, 4},
                                                 std::vector<uint8_t>{255, 90});
    auto pairs = std::make_shared<Successors>(7, 0.1, nullptr);
    auto single = std::make_shared<Successors>(3, 0.02, frozen);
    Lookups lookups(0.01, 8);
    lookups.add_matches(SIZE_MAX);
    lookups.add_matches(3);
    lookups.add_recycled(pairs, single);
    Automaton text(60), other(60);
    std::vector<int64_t> tokens{0, 1};
    Calibration calibration;
    for (int i = 0; i < 600; i++) {
        const int64_t token = static_cast<int64_t>(random() % 6);
        tokens.push_back(token), text.extend({token}), other.extend({static_cast<int64_t>(random() % 6)});
        const int64_t likely[10] = {0, 1, 2, 3, 4, 5, 6, 7, 8, static_cast<int64_t>(random() % 6)};
        const double shares[10] = {0.5, 0.2, 0.1, 0.05, 0.05, 0.02, 0.01, 0.01, 0, 1.5};
        const size_t first = random() % 10;
        single->note(static_cast<uint64_t>(token), likely + first, shares + first, 10 - first);
        pairs->note(random() % 9, likely + first, shares + first, 10 - first);
        std::vector<double> totals;
        for (size_t count = random() % 20; totals.size() < count;)
            totals.push_back(totals.empty() ? 0 : totals.back() + 0.001 * static_cast<double>(random() % 200));
        const size_t nodes = 1 + random() % 12, depth = 1 + random() % 5;
        const std::vector<int64_t> context(tokens.end() - (random() % 9 ? 2 : 1), tokens.end());
        const Tree tree = lookups.grow({{&text, text.match()}, {&other, other.match()}, {}}, context, nodes, depth, totals,
                                       calibration);
        bool good = tree.tokens.size() <= nodes && worthwhile(tree.chances, totals) <= tree.tokens.size();
        for (size_t node = 0; node < tree.tokens.size(); node++) {
            const auto parent = static_cast<size_t>(tree.parents[node]);
            good = good && tree.parents[node] < static_cast<int32_t>(node) && tree.proposers[node] &&
                   tree.chances[node] <= (tree.parents[node] < 0 ? 1 : tree.chances[parent]) &&
                   (!node || tree.chances[node] <= tree.chances[node - 1]);
        }
        expect(good, "a tree that is none, or not best first");
        tree.teach(calibration, {0, static_cast<int64_t>(random() % 20) - 3}, {token, 1, 2});
    }
    expect(pairs->size() == 7 && single->size() == 3 && pairs->learned().size() == 7, "memories of another size");
    refuses([&] { lookups.grow({}, {1}, 1, 1, {}, calibration); }, "a tree of other sources");
    refuses([&] { lookups.grow({{}, {}, {}}, {-1}, 1, 1, {}, calibration); }, "a tree after a negative token");
    refuses([] { Frozen({2, 1}, {0, 0}, {0, 0, 0}, {}, {}); }, "contexts out of order");
    refuses([] { Frozen({1, 2}, {0, 0}, {0, 9, 1}, {1}, {1}); }, "successors beyond their array");
}

// Trees of lookups and a head that answers at random, in any order of questions and draws.
void check_joint(std::mt19937& random) {
    auto lookups = std::make_shared<Lookups>(0.01, 8);
    lookups->add_matches(1u << 20);
    lookups->add_recycled(std::make_shared<Successors>(7, 0.98, nullptr), std::make_shared<Successors>(3, 0.98, nullptr));
    Automaton text(60);
    auto calibration = std::make_shared<Calibration>();
    auto blend = std::make_shared<Blend>();
    for (int i = 0; i < 400; i++) {
        text.extend({static_cast<int64_t>(random() % 4)});
        JointTerms terms;
        terms.nodes = 1 + random() % 12, terms.depth = 1 + random() % 5;
        for (size_t count = random() % 20; terms.totals.size() < count;)
            terms.totals.push_back(terms.totals.empty() ? 0 : terms.totals.back() + 0.001 * (random() % 100));
        terms.questions = {random() % 8 != 0, 0.001 * (random() % 60), 0.001 * (random() % 60)};
        terms.draws = random() % 2, terms.children = random() % 4 ? 8 : 1, terms.least = 0.01;
        const size_t nodes = terms.nodes;
        const bool draws = terms.draws;
        JointTree tree(lookups, {{&text, text.match()}, {}}, {1, static_cast<int64_t>(random() % 4)}, calibration, blend,
                       terms);
        int32_t node = -1;
        bool good = true;
        for (Need need; (need = tree.advance(node)) != Need::nothing;) {
            good = good && node >= -1 && node < static_cast<int32_t>(tree.tokens.size());
            if (need == Need::draw && random() % 9) tree.drew(node, 10 + static_cast<int32_t>(random() % 3));
            if (need == Need::answer && random() % 9) tree.answer(node, {1, 2, 10, 11, 12}, {0.5, 0.2, 0.1, 0.05, 0.0});
        }
        good = good && tree.tokens.size() <= nodes && tree.worth() <= tree.tokens.size();
        for (size_t each = 0; each < tree.tokens.size(); each++)
            good = good && tree.parents[each] < static_cast<int32_t>(each) && tree.chances[each] <= 1 &&
                   (draws || tree.q_rows[each] < 0) && (tree.q_rows[each] < 0 || each < tree.worth());
        expect(good, "a joint tree that is none, or leaves out what was drawn");
        tree.teach({0, static_cast<int64_t>(random() % 20) - 3}, {static_cast<int64_t>(random() % 4), 1, 2});
    }
    refuses([&] { JointTree(lookups, {}, {1}, calibration, blend, {1, 1, {}, {}, false, 1, 0}); }, "other sources");
    refuses([&] { JointTree(lookups, {{}, {}}, {1}, calibration, blend, {}); }, "a joint tree without nodes");
}

// The joins of random texts, broken characters among them, against a search for the best pair each time.
void check_sentencepiece(std::mt19937& random) {
    const std::vector<std::string> parts = {"a", "b", "c", "\xe2\x96\x81", "\xc3\xa9", "\xf0\x9f\x99\x82", "\xc3", "\xff"};
    std::vector<std::string> names;
    for (const char* digits = "0123456789ABCDEF"; names.size() < 256;)
        names.push_back({'<', '0', 'x', digits[names.size() / 16], digits[names.size() % 16], '>'});
    while (names.size() < 300) {
        std::string name;
        for (size_t i = random() % 4 + 1; i--;) name += parts[random() % 5];
        if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
    std::string all;
    std::vector<uint64_t> ends;
    std::vector<float> scores;
    for (const std::string& name : names) {
        ends.push_back((all += name).size());
        scores.push_back(static_cast<float>(random() % 3));
    }
    const auto token_of = [&](const std::string& text) {
        return static_cast<size_t>(std::find(names.begin(), names.end(), text) - names.begin());
    };
    const SentencePiece pieces(all, ends, scores, {}, {}, false);
    for (int round = 0; round < 2000; round++) {
        std::vector<std::string> text;
        for (size_t i = random() % 20; i--;) text.push_back(parts[random() % 6]);
        if (random() % 2) text.push_back(parts[6 + random() % 2]);
        const auto found = pieces.encode(std::accumulate(text.begin(), text.end(), std::string()));
        for (size_t best = 1; best;) {
            best = 0;
            for (size_t i = 1; i < text.size(); i++) {
                const size_t token = token_of(text[i - 1] + text[i]);
                if (token == names.size()) continue;
                if (!best || scores[token] > scores[token_of(text[best - 1] + text[best])]) best = i;
            }
            if (!best) break;
            text[best - 1] += text[best];
            text.erase(text.begin() + static_cast<std::ptrdiff_t>(best));
        }
        std::vector<int32_t> expected;
        for (const std::string& part : text) {
            const size_t token = token_of(part);
            if (token < names.size()) expected.push_back(static_cast<int32_t>(token));
            for (size_t i = 0; token == names.size() && i < part.size(); i++)
                expected.push_back(static_cast<uint8_t>(part[i]));
        }
        expect(found == expected, "a text is joined otherwise");
    }
    refuses([&] { SentencePiece(all, ends, {}, {}, {}, false); }, "tokens without scores");
    refuses([&] { SentencePiece(all, ends, scores, {300}, {}, false); }, "a special token that is none");
    refuses([&] { SentencePiece(all + "a", ends, scores, {}, {}, false); }, "a name without an end");
    refuses([&] { SentencePiece("aa", {1, 2}, {0, 0}, {}, {}, false); }, "two tokens of one name");
    refuses([&] { SentencePiece("a", {1}, {0}, {}, {}, false); }, "tokens without bytes");
}

}  // namespace

int main() {
    std::mt19937 random(3);
    std::vector<int32_t> tokens;
    for (int i = 0; i < 37; i++) tokens.push_back(static_cast<int32_t>(random() % 101));
    for (const char* kind : {"q8_0", "q4_0", "q4_1", "f32", "bf16"})
        for (size_t head_size : {8, 24})
            for (bool half : {true, false})
                check_model(kind, head_size, half, Style::plain, tokens);
    for (const char* kind : {"q8_0", "q4_0", "q4_1", "f32", "bf16"}) check_model(kind, 8, true, Style::mixed, tokens);
    for (const char* kind : {"q5_0", "q5_1", "iq4_nl", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs", "mxfp4"})
        check_model(kind, 24, true, Style::plain, tokens);
    check_model("mxfp4", 8, true, Style::sunk, tokens);
    for (Style style : {Style::capped, Style::whole, Style::sunk})
        for (const char* kind : {"q8_0", "f32"}) check_model(kind, 24, true, style, tokens);
    check_refusals();
    check_refused_experts();
    check_shape_refusals();
    check_activations();
    check_weights_that_are_no_numbers();
    check_pool();
    check_automaton(random);
    check_lookups(random);
    check_joint(random);
    check_sentencepiece(random);
    std::printf("sets:");
    for (auto set = kernel_names(); *set; set++) std::printf(" %s", *set);
    std::printf("\ndigest of logits: %016llx\n", static_cast<unsigned long long>(digest));
    std::printf(failures ? "%d failures\n" : "all checks pass\n", failures);
    return failures != 0;
}
