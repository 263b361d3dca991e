#include "pool.h"

#include <chrono>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace outrider {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int SPINS_OF_A_WORKER = 2000;  // 50 to 100 us: longer than the gaps within a pass
constexpr int SPINS_OF_THE_CALLER = 200;
constexpr std::chrono::microseconds YIELDS{50};  // far below what schedulers give at a time, and far above what it costs

void rest() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

Pool* pool = nullptr;
std::mutex making;

}  // namespace

Pool& Pool::shared() {
    std::lock_guard<std::mutex> lock(making);
    if (pool == nullptr) {
        pool = new Pool;  // never deleted: its threads may outlive main
#if defined(__unix__) || defined(__APPLE__)
        // A forked child has none of the threads, and perhaps locks that nobody will open.
        static const int once = pthread_atfork([] { making.lock(); }, [] { making.unlock(); },
                                               [] { pool = nullptr, making.unlock(); });
        (void)once;
#endif
    }
    return *pool;
}

void Pool::share(size_t pieces, size_t threads, Call call, const void* work) {
    std::unique_lock<std::mutex> mine(busy_, std::try_to_lock);
    if (!mine.owns_lock() || pieces >= MOST_PIECES) {  // another session has the threads: do without
        for (size_t i = 0; i < pieces; i++) call(work, i, 0);
        return;
    }
    threads = threads < MOST_THREADS ? threads : MOST_THREADS;
    grow(threads);
    call_ = call;
    work_ = work;
    done_.store(0, std::memory_order_relaxed);
    number_++;
    state_.store(number_ << 50 | uint64_t(threads) << 42 | uint64_t(pieces) << 21, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst)) {
        std::lock_guard<std::mutex> lock(sleep_);
        wake_.notify_all();
    }
    while (take(0) < pieces) {}
    for (int spins = 0; done_.load(std::memory_order_acquire) < pieces; spins++) {
        if (spins < SPINS_OF_THE_CALLER)
            rest();
        else
            std::this_thread::yield();  // a thread with a piece may wait for this processor
    }
}

// Does one piece, if there is one; returns its number, or MOST_PIECES.
size_t Pool::take(size_t thread) {
    State state{state_.load(std::memory_order_acquire)};
    if (state.next() >= state.pieces() || thread >= state.threads()) return MOST_PIECES;
    // The number of the work is compared along with the rest.
    if (!state_.compare_exchange_strong(state.bits, state.bits + 1, std::memory_order_acq_rel)) return 0;
    call_(work_, state.next(), thread);
    done_.fetch_add(1, std::memory_order_release);
    return state.next();
}

void Pool::serve(size_t thread) {
    Clock::time_point yielded = Clock::now();
    for (int spins = 0;; spins++) {
        if (take(thread) < MOST_PIECES) {
            spins = 0;
        } else if (spins == 1 && Clock::now() - yielded > YIELDS) {
            std::this_thread::yield();  // now and not within a piece: then the others would wait for milliseconds
            yielded = Clock::now();
        } else if (spins < SPINS_OF_A_WORKER) {
            rest();
        } else {
            std::unique_lock<std::mutex> lock(sleep_);
            sleepers_.fetch_add(1, std::memory_order_seq_cst);
            const uint64_t seen = state_.load(std::memory_order_seq_cst);
            const State state{seen};
            if (state.next() >= state.pieces() || thread >= state.threads())
                wake_.wait(lock, [&] { return state_.load(std::memory_order_seq_cst) != seen; });
            sleepers_.fetch_sub(1, std::memory_order_seq_cst);
            spins = 0;
        }
    }
}

void Pool::grow(size_t threads) {
    for (; workers_ + 1 < threads; workers_++) std::thread([this, id = workers_ + 1] { serve(id); }).detach();
}

}  // namespace outrider
