#include "successors.h"

#include <algorithm>
#include <stdexcept>

namespace outrider {

namespace {

constexpr uint64_t SCALE = UINT32_MAX;
constexpr uint32_t MOST_COUNTED = 1000;
constexpr uint8_t MOST_NOTED = 8;
constexpr uint16_t OFTEN = 16;
constexpr double STEPS = 255;

using Pair = std::pair<uint32_t, double>;

uint32_t token_of(uint64_t word) { return static_cast<uint32_t>(word >> 32); }
double share_of(uint64_t word) { return static_cast<double>(word & SCALE) / static_cast<double>(SCALE); }
uint64_t word_of(uint32_t token, double share) {
    const double scaled = (share > 0 ? std::min(share, 1.0) : 0.0) * static_cast<double>(SCALE);
    return static_cast<uint64_t>(token) << 32 | static_cast<uint64_t>(scaled);
}

Pair* found_in(std::vector<Pair>& pairs, uint32_t token) {
    for (Pair& pair : pairs)
        if (pair.first == token) return &pair;
    return nullptr;
}

bool likelier(const Pair& a, const Pair& b) { return a.second > b.second; }

}  // namespace

Frozen::Frozen(std::vector<uint64_t> keys, std::vector<uint8_t> counts, std::vector<uint32_t> starts,
               std::vector<uint32_t> tokens, std::vector<uint8_t> shares)
    : counts_(std::move(counts)), starts_(std::move(starts)), tokens_(std::move(tokens)), shares_(std::move(shares)) {
    if (keys.size() >= Table::NONE || counts_.size() != keys.size() || starts_.size() != keys.size() + 1 ||
        starts_[0] != 0 || starts_.back() != tokens_.size() || shares_.size() != tokens_.size() ||
        !std::is_sorted(starts_.begin(), starts_.end()) ||
        std::adjacent_find(keys.begin(), keys.end(), [](uint64_t a, uint64_t b) { return a >= b; }) != keys.end())
        throw std::invalid_argument("arrays of successors that do not go together");
    for (size_t i = 0; i < keys.size(); i++) places_.insert(keys[i], static_cast<uint32_t>(i));
}

bool Frozen::find(uint64_t key, Known& known) const {
    const uint32_t place = places_.find(key);
    if (place == Table::NONE) return false;
    known.times = counts_[place];
    known.successors.clear();
    for (uint32_t at = starts_[place]; at < starts_[place + 1]; at++) {
        const double root = shares_[at] / STEPS;
        known.successors.emplace_back(tokens_[at], root * root);
    }
    return true;
}

Successors::Successors(size_t most, double forgetting, std::shared_ptr<const Frozen> earlier)
    : most_(std::min(most, size_t(NOTHING) - 2)), forgetting_(forgetting), earlier_(std::move(earlier)) {
    if (!most) throw std::invalid_argument("a memory of no contexts");
}

bool Successors::find(uint64_t key, Known& known) {
    const uint32_t at = places_.find(key);
    if (at == Table::NONE) return earlier_ && earlier_->find(key, known);
    Entry& entry = entries_[at];
    // A few observations more would hardly move a mean of many.
    if (entry.waiting && !(entry.has_mean && entry.times >= OFTEN)) settle(entry);
    known.times = entry.times;
    known.successors.clear();
    for (size_t i = 0; i < entry.size; i++) known.successors.emplace_back(token_of(entry.mean[i]), share_of(entry.mean[i]));
    return true;
}

void Successors::note(uint64_t key, const int64_t* tokens, const double* probabilities, size_t count) {
    const uint32_t at = taken_out(key);
    append(at);
    Entry& entry = entries_[at];
    count = std::min(count, KEPT);
    entry.rows.push_back(count);
    for (size_t i = 0; i < count; i++) entry.rows.push_back(word_of(static_cast<uint32_t>(tokens[i]), probabilities[i]));
    if (++entry.waiting == MOST_NOTED) settle(entry);
    if (size_ <= most_) return;
    Entry& dropped = entries_[oldest_];
    const uint32_t place = oldest_;
    places_.erase(dropped.key);
    oldest_ = dropped.after;
    entries_[oldest_].before = NOTHING;
    dropped = Entry();
    dropped.after = spare_;
    spare_ = place;
    size_--;
}

std::vector<std::pair<uint64_t, Known>> Successors::learned() {
    std::vector<std::pair<uint64_t, Known>> found;
    for (uint32_t at = oldest_; at != NOTHING; at = entries_[at].after) {
        if (entries_[at].waiting) settle(entries_[at]);
        found.emplace_back(entries_[at].key, Known());
        find(entries_[at].key, found.back().second);
    }
    return found;
}

// The mean, with what was noted since.
void Successors::settle(Entry& entry) const {
    Known known;
    std::vector<Pair>& means = known.successors;
    if (entry.has_mean) {
        known.times = entry.times;
        for (size_t i = 0; i < entry.size; i++) means.emplace_back(token_of(entry.mean[i]), share_of(entry.mean[i]));
    } else if (Known before; earlier_ && earlier_->find(entry.key, before)) {
        known.times = before.times;
        for (const Pair& pair : before.successors) {  // each token once
            if (Pair* same = found_in(means, pair.first)) same->second = pair.second;
            else means.push_back(pair);
        }
    }
    for (size_t at = 0; at < entry.rows.size(); at += 1 + entry.rows[at]) {
        const double weight = known.times ? std::max(1.0 / (known.times + 1), forgetting_) : 1.0;
        for (Pair& pair : means) pair.second *= 1 - weight;
        for (size_t i = 1; i <= entry.rows[at]; i++) {
            const uint64_t word = entry.rows[at + i];
            const double added = weight * share_of(word);
            if (Pair* same = found_in(means, token_of(word))) same->second += added;
            else means.emplace_back(token_of(word), 0.0 + added);
        }
        std::stable_sort(means.begin(), means.end(), likelier);
        means.resize(std::min(means.size(), KEPT));
        known.times = std::min(known.times + 1, MOST_COUNTED);
    }
    entry.times = static_cast<uint16_t>(known.times);
    entry.size = static_cast<uint8_t>(means.size());
    for (size_t i = 0; i < means.size(); i++) entry.mean[i] = word_of(means[i].first, means[i].second);
    entry.has_mean = true;
    entry.waiting = 0;
    entry.rows = {};
}

// Where a context stands, out of the order; a new one where there is none.
uint32_t Successors::taken_out(uint64_t key) {
    uint32_t at = places_.find(key);
    if (at != Table::NONE) {
        const Entry& entry = entries_[at];
        (entry.before == NOTHING ? oldest_ : entries_[entry.before].after) = entry.after;
        (entry.after == NOTHING ? newest_ : entries_[entry.after].before) = entry.before;
        return at;
    }
    if (spare_ != NOTHING) {
        at = spare_;
        spare_ = entries_[at].after;
    } else {
        at = static_cast<uint32_t>(entries_.size());
        entries_.emplace_back();
    }
    entries_[at].key = key;
    places_.insert(key, at);
    size_++;
    return at;
}

void Successors::append(uint32_t at) {
    entries_[at].before = newest_;
    entries_[at].after = NOTHING;
    (newest_ == NOTHING ? oldest_ : entries_[newest_].after) = at;
    newest_ = at;
}

}  // namespace outrider
