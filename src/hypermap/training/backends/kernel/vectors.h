// Vectors of floats as wide as the processor's, and functions of them.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX512F__)
constexpr int WIDTH = 16;  // floats in a vector
#elif defined(__AVX__)
constexpr int WIDTH = 8;
#else
constexpr int WIDTH = 4;
#endif

typedef float Vector __attribute__((vector_size(4 * WIDTH)));
typedef int32_t Integers __attribute__((vector_size(4 * WIDTH)));
typedef int16_t Shorts __attribute__((vector_size(2 * WIDTH)));

namespace {

Vector load(const float* from) {
    Vector vector;
    std::memcpy(&vector, from, sizeof vector);
    return vector;
}

void store(float* to, Vector vector) { std::memcpy(to, &vector, sizeof vector); }

// Of two vectors side by side, a[0] to b[WIDTH - 1], the elements at the places that PICK gives for 0, 1, 2 …
template <typename PICK, int... I>
Vector shuffle(Vector a, Vector b, PICK pick, std::integer_sequence<int, I...>) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, PICK::at(I)...);
#else
    return __builtin_shuffle(a, b, Integers{pick.at(I)...});
#endif
}

template <typename PICK>
Vector shuffle(Vector a, Vector b, PICK pick) {
    return shuffle(a, b, pick, std::make_integer_sequence<int, WIDTH>());
}

template <int HALF>
struct Across {  // each element's partner HALF places away
    static constexpr int at(int i) { return i ^ HALF; }
};

template <int HALF = WIDTH / 2>
float sum(Vector vector) {
    vector += shuffle(vector, vector, Across<HALF>());
    if constexpr (HALF > 1) return sum<HALF / 2>(vector);
    return vector[0];
}

Vector greater(Vector a, Vector b) { return a > b ? a : b; }

template <int HALF = WIDTH / 2>
float largest(Vector vector) {
    vector = greater(shuffle(vector, vector, Across<HALF>()), vector);
    if constexpr (HALF > 1) return largest<HALF / 2>(vector);
    return vector[0];
}

// Functions of a vector, to within a few units of the last digit; NaN stays NaN.

Vector exponential(Vector x) {
    x = x < -87.0f ? Vector{} - 87.0f : x;
    x = x > 88.0f ? Vector{} + 88.0f : x;
    constexpr float ROUND = 12582912.0f;  // 1.5 * 2**23: adding it leaves no digits behind the point
    Vector shifted = x * 1.44269504f + ROUND, whole = shifted - ROUND;
    Vector r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    Vector p = ((((1.9875691500e-4f * r + 1.3981999507e-3f) * r + 8.3334519073e-3f) * r + 4.1665795894e-2f) * r +
                1.6666665459e-1f) * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * (Vector)((((Integers)shifted) << 23) + (127 << 23));
}

Vector logistic(Vector x) { return 1.0f / (1.0f + exponential(-x)); }

Vector tangent(Vector x) {
    Vector size = x < 0.0f ? -x : x, z = x * x;
    Vector far = 1.0f - 2.0f / (exponential(size + size) + 1.0f);
    Vector near = ((-5.70498872745e-3f * z + 2.06390887954e-2f) * z - 5.37397155531e-2f) * z + 1.33314422036e-1f;
    near = (near * z - 3.33332819422e-1f) * z * x + x;
    return size < 0.625f ? near : (x < 0.0f ? -far : far);
}

// An activation's value and its derivative.
template <int ACTIVATION>
void apply(Vector x, Vector& y, Vector& slope) {
    const Vector zero = {}, one = zero + 1.0f;
    if constexpr (ACTIVATION == RELU) {
        y = x <= 0.0f ? zero : x;
        slope = x <= 0.0f ? zero : one;
    } else if constexpr (ACTIVATION == LEAKY_RELU) {
        slope = x > 0.0f ? one : zero + 0.01f;
        y = x * slope;
    } else if constexpr (ACTIVATION == TANH) {
        y = tangent(x);
        slope = 1.0f - y * y;
    } else if constexpr (ACTIVATION == SIGMOID) {
        y = logistic(x);
        slope = y * (1.0f - y);
    } else if constexpr (ACTIVATION == SILU) {
        Vector share = logistic(x);
        y = x * share;
        slope = share * (1.0f + x * (1.0f - share));
    } else {  // GELU; the normal distribution after Abramowitz and Stegun, 7.1.26, to 1e-7
        Vector size = (x < 0.0f ? -x : x) * 0.707106781f, density = exponential(-size * size);
        Vector t = 1.0f / (1.0f + 0.3275911f * size);
        Vector tail = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) *
                      t * density * 0.5f;
        Vector below = x < 0.0f ? tail : 1.0f - tail;
        y = x * below;
        slope = below + x * density * 0.398942280f;
    }
}

}  // namespace
