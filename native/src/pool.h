// A small pool of threads for work in pieces.
//
// Whoever is awake takes the next piece. The caller takes pieces too and waits only for those that another thread has
// begun. One that the system stops within a piece holds all up for milliseconds, where a piece takes microseconds: so
// threads offer their processor to others between pieces. Idle threads spin for some microseconds, which bridges the
// gaps within a pass, and then sleep.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace outrider {

class Pool {
   public:
    static Pool& shared();  // of this process; a forked child gets one of its own

    // Calls piece(number, thread) for each number below `pieces`, by at most `threads` threads, the caller's included;
    // `thread` is below `threads`. Returns when all are done.
    template <class Piece>
    void run(size_t pieces, size_t threads, const Piece& piece) {
        if (pieces <= 1 || threads <= 1) {
            for (size_t i = 0; i < pieces; i++) piece(i, 0);
            return;
        }
        share(pieces, threads, [](const void* work, size_t i, size_t thread) {
            (*static_cast<const Piece*>(work))(i, thread);
        }, &piece);
    }
    static constexpr size_t MOST_THREADS = 255, MOST_PIECES = 1 << 20;

   private:
    using Call = void (*)(const void* work, size_t piece, size_t thread);

    // In one word, so that a thread that comes late cannot take a piece of other work: the number of the work, how many
    // threads may join, how many pieces there are, and the next one.
    struct State {
        uint64_t bits;
        size_t next() const { return bits & 0x1fffff; }
        size_t pieces() const { return bits >> 21 & 0x1fffff; }
        size_t threads() const { return bits >> 42 & 0xff; }
    };

    void share(size_t pieces, size_t threads, Call call, const void* work);
    size_t take(size_t thread);
    void serve(size_t thread);
    void grow(size_t threads);

    std::atomic<uint64_t> state_{0};
    std::atomic<size_t> done_{0};
    std::atomic<int> sleepers_{0};
    Call call_ = nullptr;
    const void* work_ = nullptr;
    uint64_t number_ = 0;
    size_t workers_ = 0;
    std::mutex busy_, sleep_;
    std::condition_variable wake_;
};

}  // namespace outrider
