// Trains and evaluates stacks of dense networks. Built and called by native.py, which documents the interface.
//
// A member is trained from the start of a call to its end by one thread, on numbers of its own and in an order of
// operations that no other member has a part in: its bits are the same alone and in any stack, on any number of
// threads.
// Within a call its weights, and what its optimizer keeps of them, are laid out anew: a layer's matrix as (in, padded),
// then its bias as (padded,), where `padded` is the layer's width rounded up to whole vectors. The padding holds zeros.

#include <algorithm>
#include <atomic>
#include <functional>
#include <new>
#include <system_error>
#include <thread>
#include <vector>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "interface.h"
#include "worker.h"

constexpr long EVALUATED = 256;  // rows of a forward pass when nothing is learned

namespace {

// Moments of weights that rarely see a gradient sink below 1e-38, where a processor is many times slower.
class FlushedDenormals {
#if defined(__SSE__)
    unsigned before = _mm_getcsr();

public:
    FlushedDenormals() { _mm_setcsr(before | 0x8040); }
    ~FlushedDenormals() { _mm_setcsr(before); }
#elif defined(__aarch64__)
    uint64_t before;

public:
    FlushedDenormals() {
        asm volatile("mrs %0, fpcr" : "=r"(before));
        asm volatile("msr fpcr, %0" : : "r"(before | (1ull << 24)));
    }
    ~FlushedDenormals() { asm volatile("msr fpcr, %0" : : "r"(before)); }
#endif
};

// Does tasks 0 to count - 1 on so many threads, this one among them: each takes the next that nobody has. A thread that
// wants for memory before it begins leaves them to the others. 0, or 1 where none could begin: then nothing was done.
int share(long count, long threads, const std::function<void(std::atomic<long>&)>& work) {
    std::atomic<long> next{0};
    auto guarded = [&] {
        FlushedDenormals flushed;
        try {
            work(next);
        } catch (const std::bad_alloc&) {
        }
    };
    std::vector<std::thread> others;
    try {
        for (long t = 1; t < std::min(threads, count); ++t) others.emplace_back(guarded);
    } catch (const std::system_error&) {  // no more threads to be had: those that are there do it all
    }
    guarded();
    for (std::thread& other : others) other.join();
    return next < count ? 1 : 0;
}
}  // namespace

extern "C" {

int hypermap_train(const Network* network, const Data* data, const Member* members, int64_t stack, int64_t count,
                   int64_t batch, int64_t threads) {
    return share(stack, threads, [=](std::atomic<long>& next) {
        Worker worker(*network, *data, std::min(batch, count), true);
        for (long member; (member = next++) < stack;) worker.train(members[member], count);
    });
}

int hypermap_evaluate(const Network* network, const Data* data, const float* const* vectors, int64_t stack,
                      int64_t count, float* outputs, int64_t threads) {
    const long portions = (count + EVALUATED - 1) / EVALUATED, width = network->widths[network->layers];
    return share(stack * portions, threads, [=](std::atomic<long>& next) {
        Worker worker(*network, *data, EVALUATED, false);
        for (long task; (task = next++) < stack * portions;) {
            const long member = task / portions, first = task % portions * EVALUATED;
            const long rows = std::min(EVALUATED, count - first);
            worker.evaluate(vectors[member], first, rows, outputs + member * count * width);
        }
    });
}
}
