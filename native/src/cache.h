// Keys and values of several rows, each with memory of its own.
#pragma once

#include <cstring>
#include <stdexcept>
#include <string>

#include "kernels.h"
#include "pages.h"

namespace outrider {

// A row is a sequence of stretches of SLOTS tokens, each with the keys and values of all layers: what a pass reads lies
// together, in as few pages of memory as there can be.
class Cache {
   public:
    // Nothing is touched: the system gives pages as rows grow.
    Cache(size_t row_count, size_t slots_of_a_row, size_t layers, size_t heads, size_t head_size, bool half)
        : rows(row_count), capacity(slots_of_a_row), layers_(layers), heads_(heads), head_size_(head_size),
          value_size_((head_size + 15) / 16 * 16), number_(half ? 2 : 4), half_(half),
          keys_(SLOTS * head_size_ * number_), values_(SLOTS * value_size_ * number_),
          stretch_(layers * heads * (keys_ + values_)) {
        const size_t stretches = (capacity + SLOTS - 1) / SLOTS, most = (size_t(1) << 48) / (keys_ + values_);
        row_size_ = stretches * stretch_;
        if (!rows || !capacity || capacity > most || !layers || !heads || layers > most / heads ||
            stretches > most / (layers * heads) || rows > most / (layers * heads) / stretches)
            throw std::invalid_argument("a cache of " + std::to_string(rows) + " rows and " +
                                        std::to_string(capacity) + " slots");
        memory_ = new_zeros(rows * row_size_);
    }

    const size_t rows, capacity;

    Span span(size_t layer, size_t row, size_t head) const {
        const uint8_t* keys = memory_.get() + place(layer, row, head);
        return {keys, keys + keys_, stretch_, half_, head_size_, value_size_};
    }

    // `x` has head_size numbers.
    void put(const Kernels& kernels, size_t layer, size_t row, size_t head, size_t slot, const float* key,
             const float* value) {
        uint8_t* keys = key_at(place(layer, row, head), slot);
        uint8_t* values = value_at(place(layer, row, head), slot);
        if (key != nullptr && half_) {
            uint16_t halves[MOST_HEAD];
            kernels.to_halves(key, head_size_, halves);
            for (size_t d = 0; d < head_size_; d++) reinterpret_cast<uint16_t*>(keys)[d * 16] = halves[d];
        } else if (key != nullptr) {
            for (size_t d = 0; d < head_size_; d++) reinterpret_cast<float*>(keys)[d * 16] = key[d];
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

    // The first `count` entries of `source` become those of `row`. Stretches go as a whole: what the last one holds
    // beyond is no token's past.
    void copy_row(size_t row, size_t source, size_t count) {
        if (row >= rows || source >= rows || count > capacity)
            throw std::invalid_argument("a copy of " + std::to_string(count) + " slots from row " +
                                        std::to_string(source) + " to row " + std::to_string(row));
        if (row != source)
            std::memcpy(memory_.get() + row * row_size_, memory_.get() + source * row_size_,
                        (count + SLOTS - 1) / SLOTS * stretch_);
    }

    static constexpr size_t MOST_HEAD = 512;

   private:
    static constexpr size_t SLOTS = Span::SLOTS;

    // Where the keys of a layer and head begin in the first stretch of a row; values follow them.
    size_t place(size_t layer, size_t row, size_t head) const {
        return row * row_size_ + (layer * heads_ + head) * (keys_ + values_);
    }
    uint8_t* key_at(size_t place, size_t slot) {
        return memory_.get() + place + slot / SLOTS * stretch_ +
               (slot % SLOTS / 16 * 16 * head_size_ + slot % 16) * number_;
    }
    uint8_t* value_at(size_t place, size_t slot) {
        return memory_.get() + place + slot / SLOTS * stretch_ + keys_ + slot % SLOTS * value_size_ * number_;
    }
    void copy(size_t place, size_t from, size_t to) {
        if (from == to) return;
        uint8_t *target = key_at(place, to), *source = key_at(place, from);
        for (size_t d = 0; d < head_size_; d++)
            std::memcpy(target + d * 16 * number_, source + d * 16 * number_, number_);
        std::memcpy(value_at(place, to), value_at(place, from), value_size_ * number_);
    }

    size_t layers_, heads_, head_size_, value_size_;
    size_t number_;  // bytes of one
    bool half_;
    size_t keys_, values_, stretch_, row_size_;  // bytes: of one head's keys and values in a stretch, of all, of a row
    Zeros memory_;
};

}  // namespace outrider
