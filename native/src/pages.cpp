#include "pages.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace outrider {

namespace {

constexpr size_t PAGE = size_t(2) << 20, CHUNK = 8 * PAGE, LINE = 64;

#if defined(__SANITIZE_ADDRESS__)
constexpr bool ALONE = true;  // so that nothing is read beyond its end unseen
#else
constexpr bool ALONE = false;
#endif

size_t rounded(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

std::shared_ptr<uint8_t> new_chunk(size_t bytes) {
    constexpr std::align_val_t aligned{PAGE};
    auto* memory = static_cast<uint8_t*>(::operator new(bytes, aligned));
#if defined(MADV_HUGEPAGE)
    madvise(memory, bytes, MADV_HUGEPAGE);  // where it is refused, pages are small
#endif
    return {memory, [](uint8_t* p) { ::operator delete(p, aligned); }};
}

std::mutex filling;
std::weak_ptr<uint8_t> newest;  // the chunk that is being filled
size_t used = 0;

}  // namespace

Pages::Pages(size_t bytes) : size_(bytes) {
    if (bytes > SIZE_MAX - CHUNK) throw std::bad_alloc();
    const size_t needed = rounded(bytes, LINE);
    if (ALONE) {
        start_ = new_chunk(bytes);
#if defined(MADV_HUGEPAGE)
    } else if (needed > CHUNK / 2) {
        start_ = new_zeros(rounded(needed, PAGE));  // whoever fills them is the first to touch them
        return;
#else
    } else if (needed > CHUNK / 2) {
        start_ = new_chunk(rounded(needed, PAGE));
#endif
    } else {
        std::lock_guard<std::mutex> lock(filling);
        std::shared_ptr<uint8_t> chunk = newest.lock();
        if (!chunk || used + needed > CHUNK) {
            newest = chunk = new_chunk(CHUNK);
            used = 0;
        }
        start_ = std::shared_ptr<uint8_t>(chunk, chunk.get() + used);
        used += needed;
    }
    std::memset(start_.get(), 0, bytes);
}

void Release::operator()(uint8_t* memory) const {
#if defined(__linux__)
    if (mapped) {
        munmap(start, mapped);
        return;
    }
#endif
    std::free(memory);
}

Zeros new_zeros(size_t bytes) {
    if (bytes > SIZE_MAX - 2 * PAGE) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    if (!ALONE && bytes >= PAGE) {
        const size_t mapped = rounded(bytes, PAGE) + PAGE;
        void* start = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (start == MAP_FAILED) throw std::bad_alloc();
        auto* memory = reinterpret_cast<uint8_t*>(rounded(reinterpret_cast<uintptr_t>(start), PAGE));
        madvise(memory, mapped - PAGE, MADV_HUGEPAGE);  // where it is refused, pages are small
        return {memory, {mapped, start}};
    }
#endif
    auto* memory = static_cast<uint8_t*>(std::calloc(bytes ? bytes : 1, 1));
    if (memory == nullptr) throw std::bad_alloc();
    return {memory, {}};
}

}  // namespace outrider
