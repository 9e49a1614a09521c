// torch's random numbers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace {

// Halves of 64-bit numbers, in place.
typedef uint32_t __attribute__((may_alias)) Half;

// torch's generator on the CPU: the Mersenne Twister of Matsumoto and Nishimura, 1998.
class Generator {
    struct State {  // the head of what torch.Generator.get_state() returns
        uint64_t seed;
        int32_t left, seeded;
        uint64_t next, words[624];
    };
    uint32_t words[624];
    long left, next;

    void twist() {
        auto mix = [this](long i, long j, long k) {
            uint32_t y = (words[i] & 0x80000000u) | (words[j] & 0x7fffffffu);
            words[i] = words[k] ^ (y >> 1) ^ (-(y & 1u) & 0x9908b0dfu);
        };
        for (long i = 0; i < 227; ++i) mix(i, i + 1, i + 397);
#pragma GCC ivdep
        for (long i = 227; i < 623; ++i) mix(i, i + 1, i - 227);
        mix(623, 0, 396);
        left = 625;
        next = 0;
    }

public:
    void read(const unsigned char* bytes) {
        State state;
        std::memcpy(&state, bytes, sizeof state);
        left = state.left;
        next = (long)state.next;
        for (int i = 0; i < 624; ++i) words[i] = (uint32_t)state.words[i];
    }

    void write(unsigned char* bytes) const {
        State state;
        std::memcpy(&state, bytes, sizeof state);
        state.left = (int32_t)left;
        state.next = (uint64_t)next;
        for (int i = 0; i < 624; ++i) state.words[i] = words[i];
        std::memcpy(bytes, &state, sizeof state);
    }

    // As many 64-bit draws, whose higher half torch draws first.
    void draw(uint64_t* to, long count) {
        auto halves = (Half*)to;
        for (long rest = 2 * count; rest > 0;) {
            if (left == 1) twist();
            long some = std::min(rest, left - 1);
            for (long i = 0; i < some; ++i) {
                uint32_t y = words[next + i];
                y ^= y >> 11;
                y ^= (y << 7) & 0x9d2c5680u;
                y ^= (y << 15) & 0xefc60000u;
                halves[i] = y ^ (y >> 18);
            }
            halves += some, next += some, left -= some, rest -= some;
        }
        for (long i = 0; i < count; ++i) to[i] = (to[i] << 32) | (to[i] >> 32);
    }
};

}  // namespace
