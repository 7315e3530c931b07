// A second thread beside each one that calls, kept for its next call, and how the two wait.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>

const int MAX_THREADS = 2;

// A count that one side raises and the other waits for: a short while awake, since the other is
// mostly about to come, then asleep, since a busy machine has no core for it.
struct Signal {
    std::atomic<uint32_t> count{0};

    uint32_t raise() {
        uint32_t now = count.fetch_add(1) + 1;
        count.notify_one();
        return now;
    }

    void wait_for(uint32_t goal) {
        for (int i = 0; i < 2000; i++) {
            if (reached(count.load(), goal)) return;
#if defined(__x86_64__) || defined(__i386__)
            __builtin_ia32_pause();
#endif
        }
        for (uint32_t seen; !reached(seen = count.load(), goal);) count.wait(seen);
    }

    static bool reached(uint32_t count, uint32_t goal) { return (int32_t)(count - goal) >= 0; }
};

struct Pair {
    Signal called, met;
    std::function<void(int)> work;  // empty: the end
    const pid_t process = getpid();
    std::thread second{[this] {
        for (uint32_t calls = 1;; calls++) {
            called.wait_for(calls);
            if (!work) return;
            work(1);
            meet();
        }
    }};

    ~Pair() {
        if (process != getpid()) {
            second.detach();
            return;
        }
        work = nullptr;
        called.raise();
        second.join();
    }

    // part(0) on this thread and part(1) on the second one.
    void run(const std::function<void(int)>& part) {
        work = part;
        called.raise();
        part(0);
        meet();
    }

    // Returns when both have come.
    void meet() {
        uint32_t arrivals = met.raise();
        if (arrivals % 2) met.wait_for(arrivals + 1);
    }
};

// That of this thread; a forked process makes a new one, since threads stay behind.
inline Pair& pair() {
    thread_local std::unique_ptr<Pair> own;
    if (!own || own->process != getpid()) {
        own.release();
        own = std::make_unique<Pair>();
    }
    return *own;
}

