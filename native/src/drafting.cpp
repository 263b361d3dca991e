// The part of the Python module that drafts: automata, successors and trees of lookups.
#include "drafting.h"

#include <nanobind/ndarray.h>
#include <nanobind/operators.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>

#include "joint.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace outrider;

namespace {

template <class Number>
using Numbers = nb::ndarray<const Number, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class Number>
using Table2 = nb::ndarray<const Number, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

template <class Number>
std::vector<Number> copied(const Numbers<Number>& array) {
    return {array.data(), array.data() + array.shape(0)};
}

template <class Items, class Convert>
nb::tuple tuple_of(const Items& items, size_t count, Convert convert) {
    nb::list made;
    for (size_t i = 0; i < count; i++) made.append(convert(items[i]));
    return nb::tuple(made);
}

// (times, [(token, probability), ...])
nb::tuple known_of(const Known& known) {
    nb::list successors;
    for (const auto& [token, share] : known.successors) successors.append(nb::make_tuple(token, share));
    return nb::make_tuple(known.times, successors);
}

// What the target was most likely to say after contexts, each the last token but one (none at a start) and the last one.
// Whether it was noted: nothing is where a probability is no number.
bool note(Successors& pairs, Successors& single,
          const std::vector<std::pair<std::optional<uint32_t>, uint32_t>>& contexts, const Table2<int64_t>& tokens,
          const Table2<float>& probabilities) {
    const size_t count = tokens.shape(1);
    if (tokens.shape(0) != contexts.size() || probabilities.shape(0) != contexts.size() ||
        probabilities.shape(1) != count)
        throw std::invalid_argument("contexts and tokens of different numbers");
    std::vector<double> all(probabilities.data(), probabilities.data() + contexts.size() * count);
    if (!std::all_of(all.begin(), all.end(), [](double share) { return std::isfinite(share); })) return false;
    for (size_t i = 0; i < contexts.size(); i++) {
        const auto& [before, last] = contexts[i];
        const int64_t* row = tokens.data() + i * count;
        const double* shares = all.data() + i * count;
        single.note(last, row, shares, count);
        if (before) pairs.note(static_cast<uint64_t>(*before) << 32 | last, row, shares, count);
    }
    return true;
}

std::vector<Match> matches_of(nb::sequence cursors) {
    std::vector<Match> matches;
    for (nb::handle cursor : cursors) {
        matches.emplace_back();
        if (cursor.is_none()) continue;
        const auto pair = nb::cast<nb::tuple>(cursor);  // the caller's list keeps what it holds alive
        if (pair.size() != 2) throw std::invalid_argument("a cursor that is none");
        matches.back() = {nb::cast<const Automaton*>(pair[0]), nb::cast<Cursor>(pair[1])};
    }
    return matches;
}

// A tree and what to tell of it: its first tokens, as many as pay, their parents (None for a chain), chances and the
// names of those that proposed them.
nb::tuple grow(const Lookups& lookups, nb::sequence cursors, const std::vector<int64_t>& context, size_t nodes,
               size_t depth, const std::vector<double>& totals, const Calibration& calibration, nb::list names) {
    Tree tree = lookups.grow(matches_of(cursors), context, nodes, depth, totals, calibration);
    const size_t count = worthwhile(tree.chances, totals);
    bool chain = true;
    for (size_t i = 0; i < count; i++) chain = chain && tree.parents[i] == static_cast<int32_t>(i) - 1;
    for (size_t i = 0; i < count; i++)
        if (tree.proposers[i] >= names.size()) throw std::invalid_argument("fewer names than sources");
    auto number = [](auto x) { return nb::cast(x); };
    nb::object parents = chain ? nb::none() : nb::object(tuple_of(tree.parents, count, number));
    nb::tuple tokens = tuple_of(tree.tokens, count, number), chances = tuple_of(tree.chances, count, number);
    nb::tuple proposers = tuple_of(tree.proposers, count, [&](uint32_t bits) { return nb::object(names[bits]); });
    return nb::make_tuple(tokens, parents, chances, proposers, std::move(tree));
}

// A tree that grows by and by. What its cursors point into must live as long as it does: the caller sees to that.
void begin_joint(JointTree* self, std::shared_ptr<Lookups> lookups, nb::sequence cursors,
                 const std::vector<int64_t>& context, std::pair<size_t, size_t> size, const std::vector<double>& totals,
                 std::shared_ptr<Calibration> calibration, std::shared_ptr<Blend> blend,
                 std::optional<std::pair<double, double>> prices, bool draws, size_t children, double least) {
    JointTerms terms;
    terms.nodes = size.first;
    terms.depth = size.second;
    terms.totals = totals;
    if (prices) terms.questions = {true, prices->first, prices->second};
    terms.draws = draws;
    terms.children = children;
    terms.least = least;
    new (self) JointTree(std::move(lookups), matches_of(cursors), context, std::move(calibration), std::move(blend),
                         std::move(terms));
}

// (node, whether one child is to be drawn), or None where the tree is complete.
nb::object advance(JointTree& tree) {
    int32_t node = -1;
    const Need need = tree.advance(node);
    return need == Need::nothing ? nb::none() : nb::object(nb::make_tuple(node, need == Need::draw));
}

nb::tuple joint_draft(const JointTree& tree, nb::list names) {
    const size_t count = tree.worth();
    const auto number = [](int32_t each) { return each; };
    return nb::make_tuple(tuple_of(tree.tokens, count, number), tuple_of(tree.parents, count, number),
                          tuple_of(tree.chances, count, [](double each) { return each; }),
                          tuple_of(tree.proposers, count, [&](uint32_t bits) { return nb::object(names[bits]); }),
                          tuple_of(tree.q_rows, count, number));
}

void bind_joint(nb::module_& m) {
    nb::class_<Blend>(m, "Blend").def(nb::init<>());
    nb::class_<JointTree>(m, "JointTree")
        .def("__init__", &begin_joint, "lookups"_a, "cursors"_a, "context"_a, "size"_a, "totals"_a, "calibration"_a,
             "blend"_a, "prices"_a.none(), "draws"_a, "children"_a, "least"_a)
        .def_ro("tokens", &JointTree::tokens)
        .def_ro("questions", &JointTree::questions)
        .def("__len__", [](const JointTree& self) { return self.tokens.size(); })
        .def("token", [](const JointTree& self, size_t node) { return self.tokens.at(node); }, "node"_a)
        .def("parent", [](const JointTree& self, size_t node) { return self.parents.at(node); }, "node"_a)
        .def("advance", &advance)
        .def("answer", &JointTree::answer, "node"_a, "tokens"_a, "shares"_a)
        .def("drew", &JointTree::drew, "node"_a, "token"_a)
        .def("children_of", &JointTree::children_of, "node"_a)
        .def("depth", &JointTree::depth_of, "node"_a)
        .def("draft", &joint_draft, "names"_a)
        .def("teach", &JointTree::teach, "path"_a, "came"_a);
}

nb::list followers_of(const Automaton& automaton, Cursor cursor) {
    nb::list found;
    for (const Follower& each : automaton.followers(cursor))
        found.append(nb::make_tuple(each.token, each.count, Cursor{each.state, cursor.length + 1}));
    return found;
}

nb::list continuations_of(const Automaton& automaton, Cursor cursor) {
    nb::list found;
    for (const Follower& each : automaton.followers(cursor)) found.append(nb::make_tuple(each.token, each.count));
    return found;
}

void bind_automaton(nb::module_& m) {
    nb::class_<Cursor>(m, "Cursor")
        .def_ro("state", &Cursor::state)
        .def_ro("length", &Cursor::length)
        .def("__eq__", [](const Cursor& self, const Cursor& other) { return self == other; })
        .def("__repr__", [](const Cursor& self) {
            return "Cursor(" + std::to_string(self.state) + ", " + std::to_string(self.length) + ")";
        });
    nb::class_<Automaton>(m, "SuffixAutomaton")
        .def(nb::init<size_t>(), "max_tokens"_a)
        .def_prop_ro("max_tokens", [](const Automaton& self) { return self.max_tokens; })
        .def_prop_ro("states", &Automaton::states)
        .def_prop_ro("match", &Automaton::match)
        .def_prop_ro("nothing", [](const Automaton&) { return Cursor(); })
        .def("__len__", &Automaton::tokens)
        .def("extend", &Automaton::extend, "tokens"_a)
        .def("append", [](Automaton& self, int64_t token) { self.extend({token}); }, "token"_a)
        .def("append_boundary", &Automaton::append_boundary)
        .def(
            "step",
            [](const Automaton& self, Cursor cursor, int64_t token) {
                return self.step(cursor, token) ? std::optional<Cursor>(cursor) : std::nullopt;
            },
            "cursor"_a, "token"_a)
        .def("follow", &Automaton::follow, "cursor"_a, "tokens"_a)
        .def(
            "shorter",
            [](const Automaton& self, Cursor cursor) {
                return self.shorter(cursor) ? std::optional<Cursor>(cursor) : std::nullopt;
            },
            "cursor"_a)
        .def("width", &Automaton::width, "cursor"_a)
        .def("followers", &followers_of, "cursor"_a)
        .def("continuations", &continuations_of, "cursor"_a)
        .def(
            "continued",
            [](const Automaton& self, Cursor cursor) {
                for (bool more = true; more && cursor.length; more = self.shorter(cursor)) {
                    nb::list followed = continuations_of(self, cursor);
                    if (followed.size()) return nb::make_tuple(cursor, followed);
                }
                return nb::make_tuple(Cursor(), nb::list());
            },
            "match"_a);
}

void bind_successors(nb::module_& m) {
    nb::class_<Frozen>(m, "Frozen")
        .def(
            "__init__",
            [](Frozen* self, const Numbers<uint64_t>& keys, const Numbers<uint8_t>& counts,
               const Numbers<uint32_t>& starts, const Numbers<uint32_t>& tokens, const Numbers<uint8_t>& shares) {
                new (self) Frozen(copied(keys), copied(counts), copied(starts), copied(tokens), copied(shares));
            },
            "keys"_a, "counts"_a, "starts"_a, "tokens"_a, "shares"_a);
    nb::class_<Successors>(m, "Successors")
        .def(nb::init<size_t, double, std::shared_ptr<const Frozen>>(), "most"_a, "forgetting"_a,
             "earlier"_a = nb::none())
        .def("__len__", &Successors::size)
        .def(
            "find",
            [](Successors& self, uint64_t key) -> nb::object {
                Known known;
                return self.find(key, known) ? nb::object(known_of(known)) : nb::none();
            },
            "key"_a)
        .def("learned", [](Successors& self) {
            nb::list found;
            for (const auto& [key, known] : self.learned()) found.append(nb::make_tuple(key, known_of(known)));
            return found;
        });
    m.def("note", &note, "pairs"_a, "single"_a, "contexts"_a, "tokens"_a, "probabilities"_a);
}

}  // namespace

void bind_drafting(nb::module_& m) {
    bind_automaton(m);
    bind_successors(m);
    bind_joint(m);
    nb::class_<Calibration>(m, "Calibration").def(nb::init<>());
    nb::class_<Tree>(m, "Tree").def("teach", &Tree::teach, "calibration"_a, "path"_a, "came"_a);
    nb::class_<Lookups>(m, "Lookups")
        .def(nb::init<double, size_t>(), "least"_a, "children"_a)
        .def("add_matches", &Lookups::add_matches, "widest"_a)
        .def("add_recycled", &Lookups::add_recycled, "pairs"_a, "single"_a)
        .def("grow", &grow, "cursors"_a, "context"_a, "nodes"_a, "depth"_a, "totals"_a, "calibration"_a, "names"_a);
}
