// The successors of contexts, averaged: outrider/drafters/recycling/successors.py says what they are, and does the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "table.h"

namespace outrider {

constexpr size_t KEPT = 8;  // successors of a context

// What is known of a context.
struct Known {
    uint32_t times = 0;
    std::vector<std::pair<uint32_t, double>> successors;  // tokens and probabilities, likeliest first
};

// What was learned before and no longer changes: frozen.py.
class Frozen {
   public:
    // keys rising; starts: 1 + contexts; tokens and shares of all contexts, one behind the other.
    Frozen(std::vector<uint64_t> keys, std::vector<uint8_t> counts, std::vector<uint32_t> starts,
           std::vector<uint32_t> tokens, std::vector<uint8_t> shares);

    bool find(uint64_t key, Known& known) const;  // false where nothing is known

   private:
    Table places_;
    std::vector<uint8_t> counts_;
    std::vector<uint32_t> starts_, tokens_;
    std::vector<uint8_t> shares_;
};

class Successors {
   public:
    Successors(size_t most, double forgetting, std::shared_ptr<const Frozen> earlier);

    size_t size() const { return size_; }
    bool find(uint64_t key, Known& known);  // false where nothing is known
    // The target was there, and these were its most probable tokens; only the first KEPT count.
    void note(uint64_t key, const int64_t* tokens, const double* probabilities, size_t count);
    std::vector<std::pair<uint64_t, Known>> learned();  // all since the start, those that were met last come last

   private:
    static constexpr uint32_t NOTHING = UINT32_MAX;

    // The mean, and observations that are not in it yet. Words are a token and its probability in 32 bits each.
    struct Entry {
        uint64_t key = 0;
        uint32_t before = NOTHING, after = NOTHING;  // in the order in which contexts were met
        uint16_t times = 0;
        uint8_t size = 0, waiting = 0;
        bool has_mean = false;
        uint64_t mean[KEPT] = {};
        std::vector<uint64_t> rows;  // of each observation: how many words, and these
    };

    void settle(Entry& entry) const;
    uint32_t taken_out(uint64_t key);
    void append(uint32_t at);

    const size_t most_;
    const double forgetting_;
    const std::shared_ptr<const Frozen> earlier_;
    Table places_;
    std::vector<Entry> entries_;
    size_t size_ = 0;
    uint32_t oldest_ = NOTHING, newest_ = NOTHING, spare_ = NOTHING;
};

}  // namespace outrider
