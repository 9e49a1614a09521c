// Losses: from logits (rows, padded) to their mean, the logits giving way to its gradient.
#pragma once

#include <cmath>
#include <limits>
#include "interface.h"
#include "vectors.h"

namespace {

double cross_entropy(const Member& member, long rows, long classes, long padded, float* logits, const int64_t* targets) {
    const float* weights = member.class_weights;
    const float hit = 1.0f - (float)member.smoothing, all = (float)(member.smoothing / classes);
    double total = 0, norm = 0;
    float every = 0;
    for (long c = 0; c < classes; ++c) every += weights[c];
    for (long b = 0; b < rows; ++b) norm += weights[targets[b]];
    const float scale = (float)(1 / norm);
    for (long b = 0; b < rows; ++b, logits += padded) {
        for (long c = classes; c < padded; ++c) logits[c] = -std::numeric_limits<float>::infinity();
        Vector tops = load(logits), sums = {};
        for (long c = WIDTH; c < padded; c += WIDTH) tops = load(logits + c) > tops ? load(logits + c) : tops;
        const float top = largest(tops), target = hit * weights[targets[b]];
        double wanted = (double)target * (logits[targets[b]] - top);
        if (all > 0)
            for (long c = 0; c < classes; ++c) wanted += (double)all * weights[c] * (logits[c] - top);
        for (long c = 0; c < padded; c += WIDTH) {
            Vector power = exponential(load(logits + c) - top);
            sums += power;
            store(logits + c, power);
        }
        const float powers = sum(sums), share = target + all * every;
        total += share * std::log((double)powers) - wanted;
        for (long c = 0; c < classes; ++c) logits[c] = (logits[c] / powers * share - all * weights[c]) * scale;
        for (long c = classes; c < padded; ++c) logits[c] = 0;
        logits[targets[b]] -= target * scale;
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
