#include "lookup.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <queue>
#include <stdexcept>

namespace outrider {

namespace {

constexpr double LARGEST_SHARE = 0.98;                  // drafters/growth.py
constexpr double TINY_CHANCE = 1e-4;                    // lookup/growth.py
constexpr double LEAST_LEFT = 1e-3;                     // lookup/mixture.py
constexpr double NOVELTY = 3;                           // suffix/shares.py
constexpr size_t MOST_CHILDREN = 4;                     // suffix/shares.py
constexpr uint32_t LONGEST_TOLD = 5;                    // lookup/suffixes.py
constexpr double TRUST_LAST = 0.6, TRUST_PAIR = 0.7;    // recycling/source.py
constexpr double DOUBT = 0.3;                           // recycling/source.py
constexpr uint32_t MET_OFTEN = 3;                       // recycling/source.py
constexpr double PRIOR = 4, MEMORY = 0.995;             // lookup/calibration.py
constexpr double LEAST_FACTOR = 0.2, MOST_FACTOR = 2.5; // lookup/calibration.py
constexpr double TINY_SHARE = 1e-3;                     // lookup/calibration.py
constexpr int BUCKETS = 8;                              // lookup/calibration.py

size_t place_of(Evidence evidence, double share) {
    int exponent = 0;
    std::frexp(share * share, &exponent);
    const int bucket = std::min(std::max(-exponent, 0), BUCKETS - 1);
    return (evidence.source * EVIDENCES + evidence.word) * BUCKETS + static_cast<size_t>(bucket);
}

template <class Items>
auto find_token(Items& items, int32_t token) {
    return std::find_if(items.begin(), items.end(), [token](const auto& item) { return item.token == token; });
}

// The chance that a node needs to join: a tree has no room for one that as many others surpass.
class Floor {
   public:
    Floor(size_t nodes, double least) : chance(least), nodes_(nodes) {}
    double chance;

    void add(double another) {
        best_.push(another);
        if (best_.size() > nodes_) best_.pop();
        if (best_.size() == nodes_) chance = std::max(chance, best_.top());
    }

   private:
    size_t nodes_;
    std::priority_queue<double, std::vector<double>, std::greater<double>> best_;
};

struct Waiting {
    double chance;
    size_t order;
    int32_t parent, token;
    uint32_t proposers;
    bool operator<(const Waiting& other) const {
        return chance != other.chance ? chance < other.chance : order > other.order;
    }
};

}  // namespace

std::vector<double> steps_of(const std::vector<double>& totals) {
    std::vector<double> steps;
    while (steps.size() + 1 < totals.size()) {
        const size_t start = steps.size();
        size_t end = start + 1;
        double slope = totals[end] - totals[start];
        for (size_t i = end + 1; i < totals.size(); i++) {
            const double further = (totals[i] - totals[start]) / static_cast<double>(i - start);
            if (further < slope) slope = further, end = i;
        }
        steps.resize(end, slope);
    }
    return steps;
}

bool ends(const std::vector<double>& steps, size_t count, double chance) {
    return count >= steps.size() || (chance <= steps[count] && (!count || steps[count] > steps[count - 1]));
}

// What one source expects: foresight in lookup/source.py.
struct Lookups::Foresight {
    size_t source = 0;
    std::vector<Candidate> shares;
    double left = 0;
    uint32_t evidence = 0, reach = 0;
    std::vector<Onward> onward;
};

double Calibration::calibrated(double share, Evidence evidence) const {
    const size_t place = place_of(evidence, share);
    if (place >= counts_.size() || !counts_[place].known) return share;
    return std::min(share * counts_[place].factor, LARGEST_SHARE);
}

void Calibration::learn(const std::vector<Candidate>& estimates, Evidence evidence, int64_t came) {
    for (const Candidate& each : estimates) {
        if (each.share < TINY_SHARE) continue;
        const size_t place = place_of(evidence, each.share);
        if (place >= counts_.size()) counts_.resize(place + 1);
        Counts& counts = counts_[place];
        counts.expected = counts.expected * MEMORY + each.share;
        counts.observed = counts.observed * MEMORY + (each.token == came ? 1.0 : 0.0);
        const double prior = PRIOR * each.share;
        counts.factor = (counts.observed + prior) / (counts.expected + prior);
        counts.factor = std::min(std::max(counts.factor, LEAST_FACTOR), MOST_FACTOR);
        counts.known = true;
    }
}

void Tree::teach(Calibration& calibration, const std::vector<int64_t>& path, const std::vector<int64_t>& came) const {
    for (size_t i = 0; i < came.size() && i <= path.size(); i++) {
        const size_t place = i ? static_cast<size_t>(path[i - 1]) + 1 : 0;
        if ((i && path[i - 1] < 0) || place >= seen.size() || !seen[place].asked) return;
        calibration.learn(seen[place].candidates, seen[place].evidence, came[i]);
    }
}

// What followed a match, the likeliest first, and of what is left what followed its suffixes: `foreseen` in
// suffix/shares.py. At most MOST_CHILDREN are kept of each match, in order; more than these are never among the best.
static bool after_match(const Match& match, size_t widest, std::vector<Candidate>& shares, std::vector<Cursor>& longer,
                        double& left) {
    struct Found {
        int32_t token;
        double share;
        Cursor cursor;
    };
    std::vector<Found> found;
    std::vector<Follower> best;
    const Automaton& automaton = *match.automaton;
    Cursor cursor = match.cursor;
    double spread = 1;
    for (size_t known = 0; cursor.length && known < MOST_CHILDREN;) {
        if (automaton.width(cursor) > widest) break;
        uint64_t total = 0;
        best.clear();
        automaton.each_follower(cursor, [&](const Follower& each) {
            if (find_token(found, each.token) != found.end()) return;
            total += each.count;
            known++;
            auto at = best.end();
            while (at != best.begin() && (at[-1].count != each.count ? at[-1].count < each.count
                                                                     : at[-1].recent < each.recent))
                --at;
            if (at == best.end() && best.size() == MOST_CHILDREN) return;
            best.insert(at, each);
            if (best.size() > MOST_CHILDREN) best.pop_back();
        });
        const double novelty = NOVELTY / cursor.length;
        const double all = static_cast<double>(total) + novelty;
        for (const Follower& each : best)
            found.push_back({each.token, spread * each.count / all, {each.state, cursor.length + 1}});
        spread *= novelty / all;
        if (!automaton.shorter(cursor)) break;
    }
    std::stable_sort(found.begin(), found.end(), [](const Found& a, const Found& b) { return a.share > b.share; });
    found.resize(std::min(found.size(), MOST_CHILDREN));
    double sum = 0;
    for (const Found& each : found) {
        sum += each.share;
        shares.push_back({each.token, each.share, 0});
        longer.push_back(each.cursor);
    }
    left = std::max(1.0 - sum, 0.0);
    return !found.empty();
}

bool Lookups::foresee(size_t number, const Place& place, Foresight& found) const {
    const Source& source = sources_[number];
    found.source = number;
    if (!source.single) {
        const Match& match = place.matches[number];
        std::vector<Cursor> longer;
        if (!match.automaton || !after_match(match, source.widest, found.shares, longer, found.left)) return false;
        for (size_t i = 0; i < longer.size(); i++)
            found.onward.push_back({number, found.shares[i].token, {match.automaton, longer[i]}});
        found.evidence = std::min(match.cursor.length, LONGEST_TOLD);
        found.reach = match.cursor.length;
        return true;
    }
    // The last two tokens, and the last one for what they leave over: recycling/source.py.
    Known pair, last;
    const uint64_t key = static_cast<uint64_t>(place.last);
    const bool is_pair = place.before >= 0 && source.pairs->find(static_cast<uint64_t>(place.before) << 32 | key, pair);
    const bool is_last = source.single->find(key, last);
    double left = 1;
    if (is_pair) {
        const double trust = TRUST_PAIR * pair.times / (pair.times + DOUBT);
        found.evidence = std::min(pair.times, MET_OFTEN);
        for (const auto& [token, share] : pair.successors) {
            auto same = find_token(found.shares, static_cast<int32_t>(token));
            if (same != found.shares.end()) same->share = trust * share;
            else found.shares.push_back({static_cast<int32_t>(token), trust * share, 0});
        }
        left -= trust;
    }
    const double trust = left * TRUST_LAST;
    for (const auto& [token, share] : last.successors) {
        auto same = find_token(found.shares, static_cast<int32_t>(token));
        if (same != found.shares.end()) same->share += trust * share;
        else found.shares.push_back({static_cast<int32_t>(token), trust * share, 0});
    }
    return is_pair || is_last;
}

// What all sources expect together: lookup/mixture.py.
void Lookups::expect(const Place& place, Tree::Expected& expected, std::vector<Onward>& onward) const {
    std::vector<Foresight> told;
    uint32_t longest = 0;
    for (size_t number = 0; number < sources_.size(); number++) {
        Foresight known;
        if (!foresee(number, place, known)) continue;
        onward.insert(onward.end(), known.onward.begin(), known.onward.end());
        const bool first = known.reach > longest;
        if (first) longest = known.reach;
        told.insert(first ? told.begin() : told.end(), std::move(known));
    }
    expected.asked = true;
    expected.evidence = {static_cast<uint32_t>(sources_.size()), 0};
    double left = 1;
    for (const Foresight& known : told) {
        const uint32_t bit = 1u << known.source;
        if (&known == &told[0]) {
            expected.evidence = {static_cast<uint32_t>(known.source), known.evidence};
            expected.candidates = known.shares;
            for (Candidate& each : expected.candidates) each.proposers = bit;
            left = known.left;
            continue;
        }
        if (left < LEAST_LEFT) break;
        for (const Candidate& each : known.shares) {
            auto same = find_token(expected.candidates, each.token);
            if (same == expected.candidates.end()) {
                expected.candidates.push_back({each.token, left * each.share, bit});
            } else {
                same->share += left * each.share;
                same->proposers |= bit;
            }
        }
        left *= known.left;
    }
}

Lookups::Place Lookups::place_at(const std::vector<Match>& matches, const std::vector<int64_t>& context) const {
    if (matches.size() != sources_.size() || sources_.size() > 30) throw std::invalid_argument("other sources");
    for (int64_t token : context)
        if (token < 0 || token > INT32_MAX) throw std::invalid_argument("a token that is none");
    const size_t size = context.size();
    if (!size) throw std::invalid_argument("a tree after no text");
    return {size > 1 ? context[size - 2] : -1, context[size - 1], 0, matches};
}

Lookups::Place Lookups::place_after(const Place& above, int32_t token, const std::vector<Onward>& onward) const {
    Place place{above.last, token, above.depth + 1, std::vector<Match>(sources_.size())};
    for (const Onward& each : onward)
        if (each.token == token) place.matches[each.source] = each.match;
    return place;
}

Tree Lookups::grow(const std::vector<Match>& matches, const std::vector<int64_t>& context, size_t nodes, size_t depth,
                   const std::vector<double>& totals, const Calibration& calibration) const {
    if (!nodes) throw std::invalid_argument("a tree without nodes");
    Tree tree;
    const std::vector<double> steps = steps_of(totals);
    const double cheapest = steps.empty() ? 0.0 : std::max(steps[0], 0.0);
    Floor floor(nodes, std::max(totals.empty() ? least_ : cheapest, TINY_CHANCE));
    std::vector<Place> places{place_at(matches, context)};  // [1 + node]
    std::vector<std::vector<Onward>> onward(1);             // [1 + node]
    std::priority_queue<Waiting> waiting;
    std::vector<std::pair<double, size_t>> best;  // calibrated share, number of the candidate
    size_t order = 0, at = 0;
    double chance = 1;
    while (true) {
        if (places[at].depth < depth && chance * LARGEST_SHARE >= floor.chance) {
            Tree::Expected& expected = tree.seen[at];
            expect(places[at], expected, onward[at]);
            const double least = floor.chance / chance;
            best.clear();
            for (size_t i = 0; i < expected.candidates.size(); i++) {
                const double share = expected.candidates[i].share;
                if (!(share * MOST_FACTOR >= least)) continue;  // no factor can lift it
                const double corrected = calibration.calibrated(share, expected.evidence);
                if (corrected >= least) best.emplace_back(corrected, i);
            }
            std::sort(best.rbegin(), best.rend());  // falling; of equal ones the one that was found last comes first
            if (best.size() > children_) best.resize(children_);
            for (const auto& [share, i] : best) {
                const Candidate& each = expected.candidates[i];
                waiting.push({chance * share, ++order, static_cast<int32_t>(at) - 1, each.token, each.proposers});
                floor.add(chance * share);
            }
        }
        if (waiting.empty()) return tree;
        const Waiting next = waiting.top();
        if (!totals.empty() && ends(steps, tree.tokens.size(), next.chance)) return tree;
        waiting.pop();
        tree.tokens.push_back(next.token);
        tree.parents.push_back(next.parent);
        tree.chances.push_back(next.chance);
        tree.proposers.push_back(next.proposers);
        tree.seen.emplace_back();
        if (tree.tokens.size() == nodes) return tree;
        chance = next.chance;
        at = tree.tokens.size();
        const size_t above = static_cast<size_t>(next.parent + 1);
        places.push_back(place_after(places[above], next.token, onward[above]));
        onward.emplace_back();
    }
}

size_t worthwhile(const std::vector<double>& chances, const std::vector<double>& totals) {
    if (totals.empty()) return chances.size();
    size_t count = 0;
    double most = 0, gain = 0;
    for (size_t i = 0; i < chances.size() && i + 1 < totals.size(); i++) {
        gain += chances[i];
        if (gain - totals[i + 1] > most) count = i + 1, most = gain - totals[i + 1];
    }
    return count;
}

}  // namespace outrider
