#include "joint.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

namespace outrider {

namespace {

constexpr double LARGEST_SHARE = 0.98;  // drafters/growth.py
constexpr double TINY_CHANCE = 1e-4;    // joint/growth.py
constexpr size_t MOST_READ = 32;        // joint/growth.py
constexpr double TOLD = 0.01;           // joint/growth.py
constexpr double SURENESS[] = {0.95, 0.9, 0.8, 0.65, 0.5, 0.3, 0.1};         // joint/blend.py
constexpr uint32_t SURENESSES = 8, DEEPEST = 2;                              // joint/blend.py
constexpr uint32_t PATIENCE = 16, LONGEST_PATIENCE = 512;                    // joint/blend.py
constexpr double FIRST_WEIGHT = 0.5, WEIGHT_PRIOR = 4, WEIGHT_MEMORY = 0.98;  // joint/blend.py
constexpr double FIRST_BEST = 0.6, LEAST_BETTER = 0.1, PRIOR = 4, MEMORY = 0.98;  // joint/blend.py
constexpr uint32_t LOOKED_UP = 0, ASKED = 1, BOTH = 2;                       // joint/blend.py

size_t place_of(Evidence evidence) { return evidence.source * EVIDENCES + evidence.word; }

double cheapest(const std::vector<double>& steps) { return steps.empty() ? 0.0 : std::max(steps[0], 0.0); }

}  // namespace

Blend::Weight Blend::known_weight(Family family) const {
    const size_t place = place_of(family.evidence);
    if (place < weights_.size() && weights_[place].value >= 0) return weights_[place];
    return {FIRST_WEIGHT, WEIGHT_PRIOR};
}

double Blend::weight(Family family) const { return known_weight(family).value; }

void Blend::move_weight(Family family, double by_head, double by_lookups) {
    if (!(by_head + by_lookups > 0)) return;
    const Weight before = known_weight(family);
    const size_t place = place_of(family.evidence);
    if (place >= weights_.size()) weights_.resize(place + 1, {-1, 0});
    const double count = WEIGHT_MEMORY * before.count + 1.0;
    weights_[place] = {before.value + (by_head / (by_head + by_lookups) - before.value) / count, count};
}

Blend::Brought& Blend::brought(Family family, uint32_t sureness) {
    const size_t place = (family.evidence.source * (DEEPEST + 1) + family.level) * SURENESSES + sureness;
    if (place >= brought_.size()) brought_.resize(place + 1);
    Brought& found = brought_[place];
    if (!found.known) {
        const double surest = !sureness ? 1.0 : sureness < SURENESSES - 1 ? SURENESS[sureness - 1] : 0.0;
        found = {true, PRIOR, std::max(FIRST_BEST, surest), std::max(LEAST_BETTER, FIRST_BEST - surest), 0,
                 PATIENCE};
    }
    return found;
}

uint32_t Blend::sureness_of(double surest) {
    uint32_t number = 0;
    while (number < SURENESSES - 1 && surest < SURENESS[number]) number++;
    return number;
}

JointTree::JointTree(std::shared_ptr<const Lookups> lookups, const std::vector<Match>& matches,
                     const std::vector<int64_t>& context, std::shared_ptr<Calibration> calibration,
                     std::shared_ptr<Blend> blend, JointTerms terms)
    : lookups_(std::move(lookups)),
      calibration_(std::move(calibration)),
      blend_(std::move(blend)),
      terms_(std::move(terms)),
      steps_(steps_of(terms_.totals)),
      least_(std::max(terms_.totals.empty() ? terms_.least : cheapest(steps_), TINY_CHANCE)),
      head_(1u << lookups_->sources()) {
    if (!terms_.nodes) throw std::invalid_argument("a tree without nodes");
    spots_.emplace_back();
    spots_[0].place = lookups_->place_at(matches, context);
    arrive(-1);
}

Need JointTree::advance(int32_t& node) {
    while (!waiting_.empty() && tokens.size() < terms_.nodes) {
        const Waiting next = waiting_.top();
        if (!terms_.totals.empty() && ends(steps_, tokens.size(), next.chance)) return Need::nothing;
        waiting_.pop();
        node = next.node;
        if (next.task == Task::question) {
            if (pays_to_ask(node)) return note_question(node), Need::answer;
        } else if (next.task == Task::draw) {
            if (pays_to_draw(next)) return Need::draw;
        } else {
            const Spot& spot = at(node);
            const auto& there = spot.children;
            if (next.answers == spot.answers && std::find(there.begin(), there.end(), next.token) == there.end())
                join(node, next.token, next.chance, next.proposers, -1);
        }
    }
    return Need::nothing;
}

void JointTree::answer(int32_t node, const std::vector<int32_t>& told, const std::vector<double>& given) {
    for (double share : given)
        if (!(share >= 0 && share <= 1)) return answer(node, {}, {});  // states that are no numbers
    Spot& spot = at(node);
    spot.asked = true;
    spot.ranks = given;
    spot.answers++;
    const double weight = spot.shares.empty() ? 1.0 : blend_->weight(spot.family);
    for (Share& each : spot.shares) each.share = (1.0 - weight) * each.looked_up;
    for (size_t i = 0; i < told.size() && i < given.size(); i++) {
        auto same = std::find_if(spot.shares.begin(), spot.shares.end(),
                                 [&](const Share& each) { return each.token == told[i]; });
        if (same == spot.shares.end()) {
            spot.shares.push_back({told[i], 0, given[i], weight * given[i], 0, false, true, 0});
        } else {
            same->share += weight * given[i];
            same->asked = given[i];
            same->by_head = true;
        }
    }
    double best = 0, surest = -1, without = 0;
    if (terms_.draws) {
        const double drawn = share_of_a_draw(spot);
        best = drawn;
        wait(Task::draw, node, spot.chance * drawn);
    }
    for (Share& each : spot.shares) {
        const uint32_t who = !each.by_head ? LOOKED_UP : each.by_lookups ? BOTH : ASKED;
        each.corrected =
            std::min(blend_->joint.calibrated(each.share, {spot.family.level, who}), LARGEST_SHARE);
        if (each.by_lookups && each.looked_up > surest) surest = each.looked_up, without = each.corrected;
        if (each.by_lookups || !terms_.draws) best = std::max(best, each.corrected);
    }
    Blend::Brought& known = blend_->brought(spot.family, spot.sureness);
    known.weight = MEMORY * known.weight + 1.0;
    known.best += (best - known.best) / known.weight;
    known.better += (best - without - known.better) / known.weight;
    offer(node, terms_.draws);
}

void JointTree::drew(int32_t node, int32_t token) {
    const double chance = at(node).chance * share_of_a_draw(at(node));
    join(node, token, chance, head_, q_count_++);
    if (terms_.children > 1) wait(Task::draw, node, at(node).chance * share_of_a_draw(at(node)));
}

size_t JointTree::worth() const {
    size_t drawn = 0;
    for (size_t node = 0; node < q_rows.size(); node++)
        if (q_rows[node] >= 0) drawn = node + 1;
    if (terms_.totals.empty()) return tokens.size();
    const size_t start = std::min(drawn, terms_.totals.size() - 1);
    std::vector<double> left;
    for (size_t i = start; i < terms_.totals.size(); i++) left.push_back(terms_.totals[i] - terms_.totals[start]);
    return drawn + worthwhile({chances.begin() + static_cast<std::ptrdiff_t>(drawn), chances.end()}, left);
}

void JointTree::teach(const std::vector<int64_t>& path, const std::vector<int64_t>& came) {
    for (size_t i = 0; i < came.size() && i <= path.size(); i++) {
        const int64_t node = i ? path[i - 1] : -1;
        if (node < -1 || node + 1 >= static_cast<int64_t>(spots_.size())) return;
        Spot& spot = at(static_cast<int32_t>(node));
        if (!spot.expected.asked) return;
        calibration_->learn(spot.expected.candidates, spot.expected.evidence, came[i]);
        if (!spot.asked) continue;
        double by_head = 0, by_lookups = 0;
        bool looked_up = false;
        const double weight = blend_->weight(spot.family);
        for (const Share& each : spot.shares) {
            const uint32_t who = !each.by_head ? LOOKED_UP : each.by_lookups ? BOTH : ASKED;
            blend_->joint.learn({{each.token, each.share, 0}}, {spot.family.level, who}, came[i]);
            looked_up = looked_up || each.by_lookups;
            if (each.token == came[i]) by_head = weight * each.asked, by_lookups = (1.0 - weight) * each.looked_up;
        }
        if (looked_up) blend_->move_weight(spot.family, by_head, by_lookups);
    }
    learn_drawn(path);
}

void JointTree::learn_drawn(const std::vector<int64_t>& path) {
    const auto on_path = [&](int64_t node) { return std::find(path.begin(), path.end(), node) != path.end(); };
    for (size_t node = 0; node < tokens.size(); node++) {
        const int32_t parent = parents[node];
        if (q_rows[node] < 0 || (parent >= 0 && !on_path(parent))) continue;
        const Spot& spot = at(parent);
        const size_t rank = static_cast<size_t>(
            std::count(parents.begin(), parents.begin() + static_cast<std::ptrdiff_t>(node), parent));
        if (rank >= spot.ranks.size()) continue;
        const uint32_t later = rank ? 1 : 0;
        blend_->drawn.learn({{1, spot.ranks[rank], 0}}, {spot.family.level, later},
                            on_path(static_cast<int64_t>(node)) ? 1 : 0);
    }
}

// A node has joined: what follows it.
void JointTree::arrive(int32_t node) {
    Spot& spot = at(node);
    if (spot.place.depth >= terms_.depth || tokens.size() >= terms_.nodes) return;
    lookups_->expect(spot.place, spot.expected, spot.onward);
    for (const Candidate& each : spot.expected.candidates) {
        const double share = calibration_->calibrated(each.share, spot.expected.evidence);
        spot.shares.push_back({each.token, share, 0, share, share, true, false, each.proposers});
        spot.surest = std::max(spot.surest, share);
    }
    spot.family = {spot.expected.evidence, static_cast<uint32_t>(std::min<size_t>(spot.place.depth, DEEPEST))};
    spot.sureness = Blend::sureness_of(spot.surest);
    if (terms_.questions.asks) {
        const double best = blend_->brought(spot.family, spot.sureness).best;
        wait(Task::question, node, spot.chance * std::max(best, spot.surest));
    }
    offer(node, false);
}

// The likeliest children wait to join; those of the head alone are drawn instead where they are drawn apart.
void JointTree::offer(int32_t node, bool drawn_apart) {
    const Spot& spot = at(node);
    std::vector<std::pair<double, size_t>> best;
    for (size_t i = 0; i < spot.shares.size(); i++)
        if (!drawn_apart || spot.shares[i].by_lookups) best.emplace_back(spot.shares[i].corrected, i);
    std::sort(best.rbegin(), best.rend());  // falling; of equal ones the one that was found last comes first
    if (best.size() > terms_.children) best.resize(terms_.children);
    for (const auto& [share, i] : best) {
        const Share& each = spot.shares[i];
        uint32_t bits = each.proposers;
        if (spot.asked && (each.asked >= TOLD || !bits)) bits |= head_;
        wait(Task::child, node, spot.chance * share, each.token, spot.answers, bits);
    }
}

void JointTree::wait(Task task, int32_t node, double chance, int32_t token, uint32_t answers, uint32_t bits) {
    if (chance >= least_) waiting_.push({chance, ++order_, node, task, token, answers, bits});
}

void JointTree::join(int32_t parent, int32_t token, double chance, uint32_t bits, int32_t q_row) {
    const int32_t node = static_cast<int32_t>(tokens.size());
    tokens.push_back(token);
    parents.push_back(parent);
    chances.push_back(chance);
    proposers.push_back(bits);
    q_rows.push_back(q_row);
    at(parent).children.push_back(token);
    if (terms_.children == 1) waiting_ = {};
    Spot spot;
    spot.place = lookups_->place_after(at(parent).place, token, at(parent).onward);
    spot.chance = chance;
    spots_.push_back(std::move(spot));
    arrive(node);
}

double JointTree::price_of_next() const {
    if (terms_.totals.empty()) return 0;
    return tokens.size() < steps_.size() ? steps_[tokens.size()] : std::numeric_limits<double>::infinity();
}

bool JointTree::pays_to_ask(int32_t node) {
    if (read_ + unread(node) > MOST_READ) return false;
    if (terms_.totals.empty()) return true;
    const Spot& spot = at(node);
    Blend::Brought& known = blend_->brought(spot.family, spot.sureness);
    const double net = spot.chance * known.best - price_of_next();
    const double first = spots_[0].read ? 0.0 : terms_.questions.first;
    const double price = first + terms_.questions.further * static_cast<double>(unread(node));
    if (std::min(spot.chance * known.better, net) > price) {
        known.patience = PATIENCE;
        return true;
    }
    if (!(net > 0) || unread(node) > 1) return false;
    if (++known.left_out <= known.patience) return false;
    known.left_out = 0;
    known.patience = std::min(2 * known.patience, LONGEST_PATIENCE);
    return true;
}

// How many nodes the head has to read before it can be asked about this one.
size_t JointTree::unread(int32_t node) const {
    size_t count = 0;
    for (; node >= 0 && !at(node).read; node = parents[static_cast<size_t>(node)]) count++;
    return count;
}

void JointTree::note_question(int32_t node) {
    questions++;
    read_ += unread(node);
    for (; node >= 0 && !at(node).read; node = parents[static_cast<size_t>(node)]) at(node).read = true;
    spots_[0].read = true;
}

// Whether to draw now; where siblings joined meanwhile, the draw waits for its turn.
bool JointTree::pays_to_draw(const Waiting& next) {
    const double chance = at(next.node).chance * share_of_a_draw(at(next.node));
    if (chance < next.chance) {
        wait(Task::draw, next.node, chance);
        return false;
    }
    return terms_.totals.empty() || (tokens.size() < steps_.size() && chance > steps_[tokens.size()]);
}

// The chance of the next drawn child to be accepted if the node is: estimated before it is drawn.
double JointTree::share_of_a_draw(const Spot& spot) const {
    const size_t rank = spot.children.size();
    if (rank >= std::min(spot.ranks.size(), terms_.children)) return 0;
    const uint32_t later = rank ? 1 : 0;
    return std::min(blend_->drawn.calibrated(spot.ranks[rank], {spot.family.level, later}), LARGEST_SHARE);
}

}  // namespace outrider
