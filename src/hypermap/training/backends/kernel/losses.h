// Losses: from logits (rows, padded) to their mean, the logits giving way to its gradient.
#pragma once

#include <cmath>
#include "interface.h"
#include "vectors.h"

namespace {

// `present` is 1 for a class and 0 for padding, `weights` a class's weight and 0.
double cross_entropy(double smoothing, long rows, long classes, long padded, const float* present, const float* weights,
                     float* logits, const int64_t* targets) {
    const float hit = 1.0f - (float)smoothing, all = (float)(smoothing / classes);
    double total = 0, norm = 0;
    float every = 0;
    for (long c = 0; c < classes; ++c) every += weights[c];
    for (long b = 0; b < rows; ++b) norm += weights[targets[b]];
    const float scale = (float)(1 / norm);
    for (long b = 0; b < rows; ++b, logits += padded) {
        const float target = hit * weights[targets[b]], share = target + all * every;
        const Vector nothing = Vector{} - 1e30f;
        Vector tops = nothing, sums = {}, smoothed = {};
        for (long c = 0; c < padded; c += WIDTH)
            tops = greater(load(present + c) > 0.0f ? load(logits + c) : nothing, tops);
        const float top = largest(tops);
        const double wanted = target * ((double)logits[targets[b]] - top);
        for (long c = 0; c < padded; c += WIDTH) {
            Vector here = load(present + c), logit = here > 0.0f ? load(logits + c) - top : nothing;
            smoothed += load(weights + c) * logit;
            Vector power = exponential(logit) * here;
            sums += power;
            store(logits + c, power);
        }
        const float powers = sum(sums), factor = share / powers * scale;
        for (long c = 0; c < padded; c += WIDTH)
            store(logits + c, load(logits + c) * factor - load(weights + c) * (all * scale));
        logits[targets[b]] -= target * scale;
        total += share * std::log((double)powers) - wanted - (double)all * sum(smoothed);
    }
    return total / norm;
}

double binary_cross_entropy(double weight, long rows, long padded, float* logits, const float* targets) {
    double total = 0;
    for (long b = 0; b < rows; ++b, logits += padded) {
        double x = logits[0], positive = weight * targets[b], negative = 1.0 - targets[b];
        double power = std::exp(-std::fabs(x)), share = (x < 0 ? power : 1.0) / (1.0 + power);
        total += negative * x + (negative + positive) * (std::log1p(power) + (x < 0 ? -x : 0.0));
        logits[0] = (float)(((negative + positive) * share - positive) / rows);
        for (long c = 1; c < padded; ++c) logits[c] = 0;
    }
    return total / rows;
}

double mean_squared_error(long rows, long padded, float* values, const float* targets) {
    double total = 0;
    for (long b = 0; b < rows; ++b, values += padded) {
        double residual = (double)values[0] - targets[b];
        total += residual * residual;
        values[0] = (float)(2 * residual / rows);
        for (long c = 1; c < padded; ++c) values[c] = 0;
    }
    return total / rows;
}

}  // namespace
