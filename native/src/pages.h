// Memory of weights, keys and values, in pages of 2 MB where the system has them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace outrider {

// Zeros from a multiple of 64 bytes on. Small ones lie side by side in one chunk, which is given back with the last.
// Passes read every weight once. In pages of 4 KB each of them costs a walk through the page table, and processors fetch
// ahead up to the end of a page alone.
class Pages {
   public:
    Pages() = default;
    // Throws std::bad_alloc.
    explicit Pages(size_t bytes);

    uint8_t* data() { return start_.get(); }
    const uint8_t* data() const { return start_.get(); }
    size_t size() const { return size_; }

   private:
    std::shared_ptr<uint8_t> start_;  // keeps the chunk
    size_t size_ = 0;
};

// Zeros that take no memory before they are touched.
struct Release {
    size_t mapped = 0;  // bytes that were mapped from `start` on; 0 where they come from the heap
    void* start = nullptr;
    void operator()(uint8_t* memory) const;
};
using Zeros = std::unique_ptr<uint8_t, Release>;

// Throws std::bad_alloc.
Zeros new_zeros(size_t bytes);

}  // namespace outrider
