// Keys and values of several rows, each with memory of its own.
#pragma once

#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>

#include "kernels.h"

namespace outrider {

class Cache {
   public:
    // Nothing is touched: the system gives pages as rows grow.
    Cache(size_t row_count, size_t slots_of_a_row, size_t layers, size_t heads, size_t head_size, bool half)
        : rows(row_count), capacity(slots_of_a_row), layers_(layers), heads_(heads), head_size_(head_size),
          value_size_((head_size + 15) / 16 * 16), slots_((capacity + 15) / 16 * 16), half_(half) {
        const size_t numbers = rows * layers * heads * slots_;
        if (!numbers || numbers / slots_ / heads / layers != rows || numbers > (size_t(1) << 44) / value_size_)
            throw std::invalid_argument("a cache of " + std::to_string(rows) + " rows and " +
                                        std::to_string(capacity) + " slots");
        keys_ = allocate(numbers * head_size_ * bytes());
        values_ = allocate(numbers * value_size_ * bytes());
    }

    const size_t rows, capacity;

    Span span(size_t layer, size_t row, size_t head) const {
        const size_t at = place(layer, row, head);
        return {keys_.get() + at * head_size_ * bytes(), values_.get() + at * value_size_ * bytes(), half_,
                head_size_, value_size_};
    }

    // `x` has head_size numbers.
    void put(const Kernels& kernels, size_t layer, size_t row, size_t head, size_t slot, const float* key,
             const float* value) {
        const size_t at = place(layer, row, head);
        uint8_t* keys = keys_.get() + (at + slot / 16 * 16) * head_size_ * bytes();
        uint8_t* values = values_.get() + (at + slot) * value_size_ * bytes();
        if (key != nullptr && half_) {
            uint16_t halves[MOST_HEAD];
            kernels.to_halves(key, head_size_, halves);
            for (size_t d = 0; d < head_size_; d++) reinterpret_cast<uint16_t*>(keys)[d * 16 + slot % 16] = halves[d];
        } else if (key != nullptr) {
            for (size_t d = 0; d < head_size_; d++) reinterpret_cast<float*>(keys)[d * 16 + slot % 16] = key[d];
        }
        if (value != nullptr && half_)
            kernels.to_halves(value, head_size_, reinterpret_cast<uint16_t*>(values));
        else if (value != nullptr)
            std::memcpy(values, value, head_size_ * sizeof(float));
    }

    // The entries at `sources` one after the other from `target` on; sources rise, and none lies before its place.
    void move(size_t row, const int32_t* sources, size_t count, size_t target) {
        for (size_t i = 0; i < count; i++)
            if (row >= rows || target + count > capacity || sources[i] < 0 ||
                static_cast<size_t>(sources[i]) >= capacity || static_cast<size_t>(sources[i]) < target + i ||
                (i && sources[i] <= sources[i - 1]))
                throw std::invalid_argument("slots that do not rise within row " + std::to_string(row));
        for (size_t layer = 0; layer < layers_; layer++)
            for (size_t head = 0; head < heads_; head++)
                for (size_t i = 0; i < count; i++)
                    copy(place(layer, row, head), static_cast<size_t>(sources[i]), target + i);
    }

    // The first `count` entries of `source` become those of `row`. Keys go in blocks of 16 slots: what the last one
    // holds beyond is no token's past.
    void copy_row(size_t row, size_t source, size_t count) {
        if (row >= rows || source >= rows || count > capacity)
            throw std::invalid_argument("a copy of " + std::to_string(count) + " slots from row " +
                                        std::to_string(source) + " to row " + std::to_string(row));
        const size_t keys = (count + 15) / 16 * 16 * head_size_ * bytes(), values = count * value_size_ * bytes();
        for (size_t layer = 0; layer < layers_ && row != source; layer++)
            for (size_t head = 0; head < heads_; head++) {
                const size_t to = place(layer, row, head) * bytes(), from = place(layer, source, head) * bytes();
                std::memcpy(keys_.get() + to * head_size_, keys_.get() + from * head_size_, keys);
                std::memcpy(values_.get() + to * value_size_, values_.get() + from * value_size_, values);
            }
    }

    static constexpr size_t MOST_HEAD = 512;

   private:
    struct Free {
        void operator()(uint8_t* memory) const { std::free(memory); }
    };
    using Memory = std::unique_ptr<uint8_t, Free>;

    static Memory allocate(size_t bytes) {
        Memory memory(static_cast<uint8_t*>(std::calloc(bytes, 1)));
        if (!memory) throw std::bad_alloc();
        return memory;
    }
    size_t bytes() const { return half_ ? 2 : 4; }
    size_t place(size_t layer, size_t row, size_t head) const {
        return ((layer * rows + row) * heads_ + head) * slots_;
    }
    void copy(size_t at, size_t from, size_t to) {
        if (from == to) return;
        const size_t size = bytes();
        uint8_t* keys = keys_.get() + at * head_size_ * size;
        uint8_t* values = values_.get() + at * value_size_ * size;
        for (size_t d = 0; d < head_size_; d++)
            std::memcpy(keys + ((to / 16 * head_size_ + d) * 16 + to % 16) * size,
                        keys + ((from / 16 * head_size_ + d) * 16 + from % 16) * size, size);
        std::memcpy(values + to * value_size_ * size, values + from * value_size_ * size, value_size_ * size);
    }

    size_t layers_, heads_, head_size_, value_size_, slots_;
    bool half_;
    Memory keys_, values_;
};

}  // namespace outrider
