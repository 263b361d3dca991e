// A suffix automaton that grows with a text: outrider/drafters/suffix/automaton.py says what it is, and does the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "table.h"

namespace outrider {

// A substring of the text. Good until the next token is appended, except for `follow`.
struct Cursor {
    uint32_t state = 0, length = 0;
    bool operator==(const Cursor& other) const { return state == other.state && length == other.length; }
};

// What came after a substring: how often, and the place after its newest occurrence.
struct Follower {
    int32_t token;
    uint32_t state, count, recent;
};

class Automaton {
   public:
    explicit Automaton(size_t max_tokens);

    const size_t max_tokens;
    size_t tokens() const { return text_.size(); }
    size_t states() const { return states_.size(); }

    void extend(const std::vector<int64_t>& tokens);  // all or, where one is no token, none
    void append_boundary() { add(static_cast<int32_t>(-++boundaries_)); }

    Cursor match() const { return at(newest_ ? states_[newest_].link : 0); }
    bool step(Cursor& cursor, int64_t token) const;  // false, and no change, where the text does not have it
    Cursor follow(Cursor cursor, const std::vector<int64_t>& tokens) const;
    bool shorter(Cursor& cursor) const;  // false, and no change, at the empty one
    size_t width(Cursor cursor) const { return states_[checked(cursor)].width; }

    // Calls visit(Follower) for each token that followed, in the order in which they first did.
    template <class Visit>
    void each_follower(Cursor cursor, Visit visit) const {
        for (uint32_t at = states_[checked(cursor)].first; at != NOTHING; at = edges_[at].next) {
            const Edge& edge = edges_[at];
            if (edge.token >= 0)
                visit(Follower{edge.token, edge.state, states_[edge.state].count, states_[edge.state].recent});
        }
    }
    std::vector<Follower> followers(Cursor cursor) const;  // the most frequent first, then the newest

   private:
    static constexpr uint32_t NOTHING = UINT32_MAX;

    // A state's transitions are a list in the order in which they came, and all stand in one table.
    struct State {
        uint32_t link = NOTHING, length = 0, count = 0, recent = 0, first = NOTHING, last = NOTHING, width = 0;
    };
    struct Edge {
        int32_t token;
        uint32_t state, next;
    };

    static uint64_t key(uint32_t state, int32_t token) {
        return static_cast<uint64_t>(state) << 32 | static_cast<uint32_t>(token);
    }
    uint32_t edge(uint32_t state, int32_t token) const { return table_.find(key(state, token)); }
    Cursor at(uint32_t state) const { return {state, states_[state].length}; }
    uint32_t checked(Cursor cursor) const;

    void clear();
    void add(int32_t token);
    void add_state(int32_t token);
    uint32_t split(uint32_t state, int32_t token, uint32_t following);
    void connect(uint32_t from, int32_t token, uint32_t to);
    void count_occurrence();

    std::vector<int32_t> text_;
    std::vector<State> states_;
    std::vector<Edge> edges_;
    Table table_;
    uint32_t newest_ = 0;
    int32_t boundaries_ = 0;
};

}  // namespace outrider
