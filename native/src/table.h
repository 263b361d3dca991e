// A hash table of whole numbers: open addressing, linear probing.
#pragma once

#include <cstdint>
#include <vector>

namespace outrider {

class Table {
   public:
    static constexpr uint32_t NONE = UINT32_MAX;  // no value that is kept

    uint32_t find(uint64_t key) const {
        if (slots_.empty()) return NONE;
        for (size_t at = home(key);; at = after(at))
            if (slots_[at].value == NONE || slots_[at].key == key) return slots_[at].value;
    }

    // The key is not there yet.
    void insert(uint64_t key, uint32_t value) {
        if (2 * (size_ + 1) > slots_.size()) grow();
        put(key, value);
        size_++;
    }

    void erase(uint64_t key) {
        if (slots_.empty()) return;
        size_t hole = home(key);
        while (slots_[hole].value != NONE && slots_[hole].key != key) hole = after(hole);
        if (slots_[hole].value == NONE) return;
        // Whatever would not be found past the hole moves into it, so that no mark has to stay there.
        for (size_t at = after(hole); slots_[at].value != NONE; at = after(at)) {
            const size_t from = home(slots_[at].key), mask = slots_.size() - 1;
            if (((at - from) & mask) < ((at - hole) & mask)) continue;
            slots_[hole] = slots_[at];
            hole = at;
        }
        slots_[hole].value = NONE;
        size_--;
    }

   private:
    struct Slot {
        uint64_t key = 0;
        uint32_t value = NONE;
    };

    size_t home(uint64_t key) const {
        key ^= key >> 32;
        return static_cast<size_t>((key * 0x9E3779B97F4A7C15u) >> shift_);
    }
    size_t after(size_t at) const { return (at + 1) & (slots_.size() - 1); }

    void put(uint64_t key, uint32_t value) {
        size_t at = home(key);
        while (slots_[at].value != NONE) at = after(at);
        slots_[at].key = key;
        slots_[at].value = value;
    }

    void grow() {
        std::vector<Slot> old(slots_.empty() ? 16 : 2 * slots_.size());
        old.swap(slots_);
        shift_ = 64;
        for (size_t size = slots_.size(); size > 1; size /= 2) shift_--;
        for (const Slot& slot : old)
            if (slot.value != NONE) put(slot.key, slot.value);
    }

    std::vector<Slot> slots_;  // a power of two of them, at most half are taken
    size_t size_ = 0;
    unsigned shift_ = 64;
};

}  // namespace outrider
