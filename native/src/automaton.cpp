#include "automaton.h"

#include <algorithm>
#include <stdexcept>

namespace outrider {

namespace {

constexpr int COUNTED_LINKS = 32;
constexpr size_t LARGEST = size_t(1) << 30;  // tokens: states and edges have 32 bits

bool is_token(int64_t token) { return token >= 0 && token <= INT32_MAX; }

}  // namespace

Automaton::Automaton(size_t most) : max_tokens(std::min(most, LARGEST)) {
    if (most < 2) throw std::invalid_argument("an automaton of fewer than 2 tokens");
    clear();
}

void Automaton::extend(const std::vector<int64_t>& tokens) {
    if (!std::all_of(tokens.begin(), tokens.end(), is_token)) throw std::invalid_argument("a token that is none");
    for (int64_t token : tokens) add(static_cast<int32_t>(token));
}

bool Automaton::step(Cursor& cursor, int64_t token) const {
    if (token < INT32_MIN || token > INT32_MAX) return false;
    const uint32_t found = edge(checked(cursor), static_cast<int32_t>(token));
    if (found == Table::NONE) return false;
    cursor = {edges_[found].state, cursor.length + 1};
    return true;
}

Cursor Automaton::follow(Cursor cursor, const std::vector<int64_t>& tokens) const {
    uint32_t state = checked(cursor), length = cursor.length;
    // A split since then moved the shorter strings of the state to its link.
    while (state && length <= states_[states_[state].link].length) state = states_[state].link;
    for (int64_t token : tokens) {
        const bool possible = is_token(token);
        auto next = [&] { return possible ? edge(state, static_cast<int32_t>(token)) : Table::NONE; };
        uint32_t found = next();
        while (found == Table::NONE && state) {
            state = states_[state].link;
            length = states_[state].length;
            found = next();
        }
        if (found != Table::NONE) state = edges_[found].state, length++;
    }
    return {state, length};
}

bool Automaton::shorter(Cursor& cursor) const {
    if (!checked(cursor)) return false;
    cursor = at(states_[cursor.state].link);
    return true;
}

std::vector<Follower> Automaton::followers(Cursor cursor) const {
    std::vector<Follower> found;
    each_follower(cursor, [&](const Follower& each) { found.push_back(each); });
    std::stable_sort(found.begin(), found.end(), [](const Follower& a, const Follower& b) {
        return a.count != b.count ? a.count > b.count : a.recent > b.recent;
    });
    return found;
}

uint32_t Automaton::checked(Cursor cursor) const {
    if (cursor.state >= states_.size()) throw std::invalid_argument("a cursor of another automaton");
    return cursor.state;
}

void Automaton::clear() {
    text_.clear();
    edges_.clear();
    table_ = Table();
    states_.assign(1, State());
    newest_ = 0;
}

void Automaton::add(int32_t token) {
    if (text_.size() >= max_tokens) {  // forget the older half
        const std::vector<int32_t> kept(text_.end() - static_cast<ptrdiff_t>(max_tokens / 2), text_.end());
        clear();
        for (int32_t each : kept) add(each);
    }
    text_.push_back(token);
    add_state(token);
    count_occurrence();
}

void Automaton::add_state(int32_t token) {
    const uint32_t made = static_cast<uint32_t>(states_.size());
    State state;
    state.link = 0, state.length = states_[newest_].length + 1;
    states_.push_back(state);
    uint32_t at = newest_, found = Table::NONE;
    while (at != NOTHING && (found = edge(at, token)) == Table::NONE) {
        connect(at, token, made);
        at = states_[at].link;
    }
    if (at != NOTHING) {
        uint32_t following = edges_[found].state;
        if (states_[following].length != states_[at].length + 1) following = split(at, token, following);
        states_[made].link = following;
    }
    newest_ = made;
}

// Split the shorter strings of `following` off, since they now end at one more position.
uint32_t Automaton::split(uint32_t state, int32_t token, uint32_t following) {
    const uint32_t made = static_cast<uint32_t>(states_.size());
    State shorter;
    shorter.length = states_[state].length + 1;
    shorter.count = states_[following].count;
    shorter.link = states_[following].link;
    states_.push_back(shorter);
    for (uint32_t at = states_[following].first; at != NOTHING; at = edges_[at].next)
        connect(made, edges_[at].token, edges_[at].state);
    states_[following].link = made;
    while (state != NOTHING) {
        const uint32_t found = edge(state, token);
        if (found == Table::NONE || edges_[found].state != following) break;
        edges_[found].state = made;
        state = states_[state].link;
    }
    return made;
}

void Automaton::connect(uint32_t from, int32_t token, uint32_t to) {
    const uint32_t made = static_cast<uint32_t>(edges_.size());
    edges_.push_back({token, to, NOTHING});
    table_.insert(key(from, token), made);
    State& state = states_[from];
    (state.last == NOTHING ? state.first : edges_[state.last].next) = made;
    state.last = made;
    state.width++;
}

void Automaton::count_occurrence() {
    uint32_t state = newest_;
    for (int i = 0; i < COUNTED_LINKS && state; i++) {
        states_[state].count++;
        states_[state].recent = static_cast<uint32_t>(text_.size());
        state = states_[state].link;
    }
}

}  // namespace outrider
