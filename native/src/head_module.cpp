// Draft heads for Python. Everything that comes in is checked here or in head.cpp.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <map>

#include "head.h"
#include "joint.h"
#include "owned.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace outrider;

namespace {

using States = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using SharedMatrix = std::shared_ptr<Matrix>;

struct HeadSession {
    std::shared_ptr<Head> head;
    std::unique_ptr<Cache> cache;

    HeadSession(std::shared_ptr<Head> of, size_t rows, size_t capacity)
        : head(std::move(of)), cache(head->new_cache(rows, capacity, true)) {}
};

void require_width(const States& x, size_t width) {
    if (x.shape(1) != width) throw std::invalid_argument("states of " + std::to_string(x.shape(1)) + " numbers");
}

std::vector<Row> rows_of(const std::vector<size_t>& rows, const std::vector<size_t>& kept,
                         const std::vector<std::vector<int32_t>>& parents,
                         const std::vector<std::vector<int32_t>>& tokens) {
    if (rows.size() != kept.size() || rows.size() != parents.size() || rows.size() != tokens.size())
        throw std::invalid_argument("lists of different lengths");
    std::vector<Row> work;
    for (size_t i = 0; i < rows.size(); i++) work.push_back({rows[i], kept[i], parents[i], tokens[i], tokens[i].size()});
    return work;
}

// Entries of texts, of the target's states; what the head makes of the newest one of each row.
auto head_read(HeadSession& session, const std::vector<size_t>& rows, const std::vector<size_t>& kept,
               const std::vector<std::vector<int32_t>>& parents, const std::vector<std::vector<int32_t>>& tokens,
               States hidden) {
    const Head& head = *session.head;
    require_width(hidden, head.read_size());
    std::vector<Row> work = rows_of(rows, kept, parents, tokens);
    for (Row& row : work) row.wanted = 1;
    std::vector<float> made;
    {
        nb::gil_scoped_release release;
        const std::vector<float> states = head.read(hidden.data(), hidden.shape(0));
        made = head.forward(*session.cache, work, states.data(), hidden.shape(0));
    }
    return owned(std::move(made), rows.size(), head.hidden_size());
}

// Entries of drafts, of what the head made; what it makes of them.
auto head_forward(HeadSession& session, const std::vector<size_t>& rows, const std::vector<size_t>& kept,
                  const std::vector<std::vector<int32_t>>& parents, const std::vector<std::vector<int32_t>>& tokens,
                  States states) {
    const Head& head = *session.head;
    require_width(states, head.hidden_size());
    const std::vector<Row> work = rows_of(rows, kept, parents, tokens);
    std::vector<float> made;
    {
        nb::gil_scoped_release release;
        made = head.forward(*session.cache, work, states.data(), states.shape(0));
    }
    return owned(std::move(made), states.shape(0), head.hidden_size());
}

auto head_passed_on(const Head& head, States made) {
    require_width(made, head.hidden_size());
    return owned(head.passed_on(made.data(), made.shape(0)), made.shape(0), head.hidden_size());
}

auto head_logits(const Head& head, States made) {
    require_width(made, head.hidden_size());
    std::vector<float> found;
    {
        nb::gil_scoped_release release;
        found = head.logits(made.data(), made.shape(0));
    }
    return owned(std::move(found), made.shape(0), head.vocabulary());
}

// Answers what a tree asks, about `node` first, until it needs no more answers, or a draw. `made`: what the head made of the text itself, [1, hidden].
// `ids`: of the tokens that it can draft. Returns how many nodes the head read, which are tentative entries of its row.
size_t head_grow(HeadSession& session, size_t row, size_t kept, States made, JointTree& tree, int32_t node,
                 nb::ndarray<const int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu> ids, size_t count) {
    const Head& head = *session.head;
    require_width(made, head.hidden_size());
    if (made.shape(0) != 1 || ids.shape(0) != head.vocabulary() || !count || count > head.vocabulary())
        throw std::invalid_argument("states, ids or a number of tokens that do not fit the head");
    nb::gil_scoped_release release;
    std::map<int32_t, std::vector<float>> states{{-1, {made.data(), made.data() + head.hidden_size()}}};
    std::map<int32_t, int32_t> entries{{-1, -1}};
    std::vector<int32_t> parents;
    do {
        std::vector<int32_t> way;
        for (int32_t each = node; !states.count(each); each = tree.parents.at(static_cast<size_t>(each)))
            way.push_back(each);
        for (size_t i = way.size(); i-- > 0;) {
            const int32_t above = tree.parents[static_cast<size_t>(way[i])];
            parents.push_back(entries.at(above));
            entries[way[i]] = static_cast<int32_t>(parents.size()) - 1;
            const std::vector<float> origin = head.passed_on(states.at(above).data(), 1);
            const Row work{row, kept, parents, {tree.tokens[static_cast<size_t>(way[i])]}, 1};
            states[way[i]] = head.forward(*session.cache, {work}, origin.data(), 1);
        }
        const Top top = head.top_of(head.logits(states.at(node).data(), 1).data(), 1, count);
        std::vector<int32_t> tokens;
        for (int64_t place : top.tokens) tokens.push_back(static_cast<int32_t>(ids.data()[place]));
        tree.answer(node, tokens, {top.probabilities.begin(), top.probabilities.end()});
    } while (tree.advance(node) == Need::answer);
    return parents.size();
}

// The most probable tokens of what the head made, and their probabilities.
nb::tuple head_likely(const Head& head, States made, size_t count) {
    require_width(made, head.hidden_size());
    Top top;
    {
        nb::gil_scoped_release release;
        top = head.top_of(head.logits(made.data(), made.shape(0)).data(), made.shape(0), count);
    }
    const size_t rows = made.shape(0);
    return nb::make_tuple(owned(std::move(top.tokens), rows, count), owned(std::move(top.probabilities), rows, count));
}

}  // namespace

void add_heads(nb::module_& m) {
    nb::class_<HeadParts>(m, "HeadParts")
        .def(nb::init<>())
        .def_rw("shape", &HeadParts::shape)
        .def_rw("layer", &HeadParts::layer)
        .def_rw("token_norm", &HeadParts::token_norm)
        .def_rw("norm", &HeadParts::norm)
        .def_rw("read_norms", &HeadParts::read_norms)
        .def_rw("norm_before_residual", &HeadParts::norm_before_residual)
        .def_rw("norm_output", &HeadParts::norm_output)
        .def("set_matrices", [](HeadParts& parts, SharedMatrix embedding, SharedMatrix reading, SharedMatrix head) {
            parts.embedding = std::move(embedding), parts.reading = std::move(reading), parts.head = std::move(head);
        }, "embedding"_a, "reading"_a, "head"_a);
    nb::class_<Head>(m, "Head")
        .def(nb::init<HeadParts, const std::string&, size_t>(), "parts"_a, "instruction_set"_a, "threads"_a)
        .def("passed_on", &head_passed_on, "made"_a)
        .def("logits", &head_logits, "made"_a)
        .def("likely", &head_likely, "made"_a, "count"_a);
    nb::class_<HeadSession>(m, "HeadSession")
        .def(nb::init<std::shared_ptr<Head>, size_t, size_t>(), "head"_a, "rows"_a, "capacity"_a)
        .def("grow", &head_grow, "row"_a, "kept"_a, "made"_a, "tree"_a, "node"_a, "ids"_a, "count"_a)
        .def("read", &head_read, "rows"_a, "kept"_a, "parents"_a, "tokens"_a, "hidden"_a)
        .def("forward", &head_forward, "rows"_a, "kept"_a, "parents"_a, "tokens"_a, "states"_a);
}
