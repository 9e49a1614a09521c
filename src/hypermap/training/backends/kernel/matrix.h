// Matrix products and transposes.
#pragma once

#include <algorithm>
#include "vectors.h"

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int TILES[] = {12, 12, 8, 6};  // rows of a tile that is 1, 2, 3, 4 vectors wide
#else
constexpr int TILES[] = {8, 6};  // half as many registers
#endif
constexpr int WIDEST = sizeof(TILES) / sizeof(int);

namespace {

// Matrix products: c (rows, columns) = a (rows, depth) times b (depth, columns), the columns in whole vectors. A row's
// numbers are summed in one order whatever tile it falls into.

struct Left {
    const float* data;
    long row, step;  // from one row to the next, from one term of the sum to the next
};

template <int ROWS, int VECTORS>
void multiply_tile(long depth, Left a, const float* b, float* c, long stride) {
    Vector sums[ROWS][VECTORS] = {};
    for (long k = 0; k < depth; ++k, a.data += a.step, b += stride) {
        Vector right[VECTORS];
#pragma GCC unroll 16
        for (int v = 0; v < VECTORS; ++v) right[v] = load(b + v * WIDTH);
#pragma GCC unroll 16
        for (int m = 0; m < ROWS; ++m)
#pragma GCC unroll 16
            for (int v = 0; v < VECTORS; ++v) sums[m][v] += a.data[m * a.row] * right[v];
    }
#pragma GCC unroll 16
    for (int m = 0; m < ROWS; ++m)
#pragma GCC unroll 16
        for (int v = 0; v < VECTORS; ++v) store(c + m * stride + v * WIDTH, sums[m][v]);
}

template <int VECTORS>
void multiply_columns(long rows, long depth, Left a, const float* b, float* c, long stride) {
    constexpr int ROWS = TILES[VECTORS - 1];
    if (rows < ROWS) {
        for (long m = 0; m < rows; ++m)
            multiply_tile<1, VECTORS>(depth, {a.data + m * a.row, a.row, a.step}, b, c + m * stride, stride);
        return;
    }
    for (long m = 0; m < rows; m += ROWS) {
        long first = std::min(m, rows - ROWS);  // the last tile computes some rows again, to the same numbers
        multiply_tile<ROWS, VECTORS>(depth, {a.data + first * a.row, a.row, a.step}, b, c + first * stride, stride);
    }
}

void multiply(long rows, long columns, long depth, Left a, const float* b, float* c) {
    for (long n = 0; n < columns;) {
        long vectors = std::min<long>((columns - n) / WIDTH, WIDEST);
        if (vectors == 1) multiply_columns<1>(rows, depth, a, b + n, c + n, columns);
        if (vectors == 2) multiply_columns<2>(rows, depth, a, b + n, c + n, columns);
        if constexpr (WIDEST > 2) {
            if (vectors == 3) multiply_columns<3>(rows, depth, a, b + n, c + n, columns);
            if (vectors == 4) multiply_columns<4>(rows, depth, a, b + n, c + n, columns);
        }
        n += vectors * WIDTH;
    }
}

// The transpose of a square of WIDTH rows: at each level halves change places between rows HALF apart.

template <int HALF>
struct Upper {
    static constexpr int at(int i) { return i & HALF ? WIDTH + i - HALF : i; }
};

template <int HALF>
struct Lower {
    static constexpr int at(int i) { return i & HALF ? WIDTH + i : i + HALF; }
};

template <int HALF = WIDTH / 2>
void turn(Vector (&rows)[WIDTH]) {
#pragma GCC unroll 16
    for (int i = 0; i < WIDTH; ++i)
        if (!(i & HALF)) {
            Vector a = rows[i], b = rows[i + HALF];
            rows[i] = shuffle(a, b, Upper<HALF>());
            rows[i + HALF] = shuffle(a, b, Lower<HALF>());
        }
    if constexpr (HALF > 1) turn<HALF / 2>(rows);
}

void transpose(const float* from, long rows, long columns, long stride, float* to, long to_stride) {
    for (long r = 0; r < rows; r += WIDTH)
        for (long c = 0; c < columns; c += WIDTH) {
            if (r + WIDTH <= rows && c + WIDTH <= columns) {
                Vector square[WIDTH];
#pragma GCC unroll 16
                for (int i = 0; i < WIDTH; ++i) square[i] = load(from + (r + i) * stride + c);
                turn(square);
#pragma GCC unroll 16
                for (int j = 0; j < WIDTH; ++j) store(to + (c + j) * to_stride + r, square[j]);
                continue;
            }
            for (long j = c; j < std::min(c + WIDTH, columns); ++j)
                for (long i = r; i < std::min(r + WIDTH, rows); ++i) to[j * to_stride + i] = from[i * stride + j];
        }
}

}  // namespace
