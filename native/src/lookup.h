// Trees of lookups, grown best first. outrider/drafters/lookup/ says how and why; here is the same, step by step, so that
// both grow the same trees: every sum is added in the same order, and of equals the same one comes first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "automaton.h"
#include "successors.h"

namespace outrider {

// How good the evidence behind an estimate is: the source that came first, and its own word for it.
struct Evidence {
    uint32_t source = 0, word = 0;
};
constexpr size_t EVIDENCES = 8;  // more words than any source has

// A token that may follow, its estimated probability, and a bit for each source that expects it.
struct Candidate {
    int32_t token;
    double share;
    uint32_t proposers;
};

// How right estimates are: calibration.py.
class Calibration {
   public:
    double calibrated(double share, Evidence evidence) const;
    void learn(const std::vector<Candidate>& estimates, Evidence evidence, int64_t came);

   private:
    struct Counts {
        double expected = 0, observed = 0, factor = 0;
        bool known = false;
    };
    std::vector<Counts> counts_;
};

// A tree: its nodes in the order in which they joined, and what was expected after the root and after each node.
struct Tree {
    struct Expected {
        bool asked = false;
        Evidence evidence;
        std::vector<Candidate> candidates;
    };
    std::vector<int32_t> tokens, parents;
    std::vector<double> chances;
    std::vector<uint32_t> proposers;
    std::vector<Expected> seen{1};  // [1 + node]

    // What came after the root and after each node of the accepted path, as far as it was expected.
    void teach(Calibration& calibration, const std::vector<int64_t>& path, const std::vector<int64_t>& came) const;
};

// Where a source that follows matches stands; nowhere without an automaton.
struct Match {
    const Automaton* automaton = nullptr;
    Cursor cursor;
};

class Lookups {
   public:
    // Nodes with a chance below `least` stay out where nothing has a price; 1 child grows chains.
    Lookups(double least, size_t children) : least_(least), children_(children) {}

    void add_matches(size_t widest) { sources_.push_back({widest, nullptr, nullptr}); }
    void add_recycled(std::shared_ptr<Successors> pairs, std::shared_ptr<Successors> single) {
        sources_.push_back({0, std::move(pairs), std::move(single)});
    }

    // `matches`: of each source. `context`: the newest tokens of the text. `totals`: the prices of drafts of 0, 1, ...
    // tokens; empty where they cost nothing.
    Tree grow(const std::vector<Match>& matches, const std::vector<int64_t>& context, size_t nodes, size_t depth,
              const std::vector<double>& totals, const Calibration& calibration) const;

    // A place in the text or in the tree: its newest tokens, and for each source the match.
    struct Place {
        int64_t before = -1, last = -1;  // -1 where there is none
        size_t depth = 0;
        std::vector<Match> matches;
    };
    // Where a source goes on after a token.
    struct Onward {
        size_t source;
        int32_t token;
        Match match;
    };
    size_t sources() const { return sources_.size(); }
    // The end of a text. Throws std::invalid_argument where there is none.
    Place place_at(const std::vector<Match>& matches, const std::vector<int64_t>& context) const;
    // A child of a place, of which `onward` is known.
    Place place_after(const Place& above, int32_t token, const std::vector<Onward>& onward) const;
    // What all sources expect after a place, together.
    void expect(const Place& place, Tree::Expected& expected, std::vector<Onward>& onward) const;

   private:
    struct Source {
        size_t widest;
        std::shared_ptr<Successors> pairs, single;  // none: it follows matches
    };
    struct Foresight;

    bool foresee(size_t source, const Place& place, Foresight& found) const;

    const double least_;
    const size_t children_;
    std::vector<Source> sources_;
};

// What each further token costs: the slopes of the lower convex envelope of `totals`, as Prices in maths/budget.py.
std::vector<double> steps_of(const std::vector<double>& totals);
// Whether none of the tokens that follow `count` others is drafted, if none has a larger chance.
bool ends(const std::vector<double>& steps, size_t count, double chance);
// How many tokens of these chances to draft for the largest gain minus cost.
size_t worthwhile(const std::vector<double>& chances, const std::vector<double>& totals);

}  // namespace outrider
