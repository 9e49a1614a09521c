// A step of each optimizer on so many numbers, after torch.optim. `g` is the gradient, `cut` what clipping leaves of
// it.
#pragma once

#include <algorithm>
#include <cmath>
#include "interface.h"
#include "vectors.h"

namespace {

struct Pace {
    double rate, taken;  // the learning rate, and the steps taken with this one
    float cut;
};

void adam(const Member& o, Pace pace, long count, float* __restrict w, const float* __restrict g, float* __restrict m,
          float* __restrict v) {
    const bool decoupled = o.optimizer == ADAMW;
    const float penalty = decoupled ? 0 : (float)o.weight_decay;
    const float shrink = decoupled ? (float)(1 - pace.rate * o.weight_decay) : 1;
    const float first = (float)(1 - o.momentum), second = (float)(1 - o.decay), beta = (float)o.decay;
    const float step = (float)(pace.rate / (1 - std::pow(o.momentum, pace.taken)));
    const float scale = (float)(1 / std::sqrt(1 - std::pow(o.decay, pace.taken))), epsilon = (float)o.epsilon;
    for (long i = 0; i < count; ++i) {
        float gradient = g[i] * pace.cut + penalty * w[i];
        m[i] += first * (gradient - m[i]);
        v[i] = beta * v[i] + second * gradient * gradient;
        w[i] = shrink * w[i] - step * m[i] / (std::sqrt(v[i]) * scale + epsilon);
    }
}

void sgd(const Member& o, Pace pace, long count, float* __restrict w, const float* __restrict g,
         float* __restrict buffer) {
    const float rate = (float)pace.rate, penalty = (float)o.weight_decay, momentum = (float)o.momentum;
    const bool first = pace.taken == 1;  // the buffer then begins with the gradient itself
    const float kept = first ? 0 : momentum, added = first ? 1 : (float)(1 - o.dampening);
    if (o.momentum == 0) {
        for (long i = 0; i < count; ++i) w[i] -= rate * (g[i] * pace.cut + penalty * w[i]);
        return;
    }
    for (long i = 0; i < count; ++i) {
        float gradient = g[i] * pace.cut + penalty * w[i];
        buffer[i] = kept * buffer[i] + added * gradient;
        w[i] -= rate * (o.nesterov ? gradient + momentum * buffer[i] : buffer[i]);
    }
}

void rmsprop(const Member& o, Pace pace, long count, float* __restrict w, const float* __restrict g,
             float* __restrict square, float* __restrict buffer) {
    const float rate = (float)pace.rate, penalty = (float)o.weight_decay, momentum = (float)o.momentum;
    const float alpha = (float)o.decay, rest = (float)(1 - o.decay), epsilon = (float)o.epsilon;
    for (long i = 0; i < count; ++i) {
        float gradient = g[i] * pace.cut + penalty * w[i];
        square[i] = alpha * square[i] + rest * gradient * gradient;
        float step = gradient / (std::sqrt(square[i]) + epsilon);
        if (buffer) step = buffer[i] = momentum * buffer[i] + step;
        w[i] -= rate * step;
    }
}

void adagrad(const Member& o, Pace pace, long count, float* __restrict w, const float* __restrict g,
             float* __restrict square) {
    const float rate = (float)(pace.rate / (1 + (pace.taken - 1) * o.decay));
    const float penalty = (float)o.weight_decay, epsilon = (float)o.epsilon;
    for (long i = 0; i < count; ++i) {
        float gradient = g[i] * pace.cut + penalty * w[i];
        square[i] += gradient * gradient;
        w[i] -= rate * gradient / (std::sqrt(square[i]) + epsilon);
    }
}

// Adds the penalties' gradient to so many numbers of it; returns the sum of their squares.
double penalize(float l1, float l2, long count, const float* w, float* g) {
    constexpr long STRIDE = 4 * WIDTH;  // four sums at once: the next need not wait for the last
    Vector squares[4] = {};
    for (long i = 0; i < count; i += STRIDE)
        for (long j = i, lane = 0; j < std::min(i + STRIDE, count); j += WIDTH, ++lane) {
            Vector gradient = load(g + j);
            if (l1 != 0 || l2 != 0) {
                Vector weight = load(w + j), zero = {}, one = zero + 1.0f;
                gradient += l1 * (weight > 0.0f ? one : (weight < 0.0f ? -one : zero)) + 2 * l2 * weight;
                store(g + j, gradient);
            }
            squares[lane] += gradient * gradient;
        }
    return (double)sum(squares[0]) + sum(squares[1]) + sum(squares[2]) + sum(squares[3]);
}

}  // namespace
