// What native.py hands over: its structures have the same fields.
#pragma once

#include <cstdint>

enum Activation { RELU, TANH, SIGMOID, GELU, SILU, LEAKY_RELU };
enum Optimizer { ADAM, ADAMW, SGD, RMSPROP, ADAGRAD };
enum Loss { CROSS_ENTROPY, BINARY_CROSS_ENTROPY, MEAN_SQUARED_ERROR };

struct Network {
    const int64_t* widths;  // (layers + 1,): of the input, the hidden layers, the output
    int64_t layers;
    int64_t activation;
};

struct Data {
    const float* inputs;     // (rows, width of the input)
    const int64_t* classes;  // (rows,), for CROSS_ENTROPY
    const float* values;     // (rows,), for the other losses
};

struct Member {
    float* weights;              // in torch's order: a layer's matrix (out, in), then its bias (out,)
    float* state[2];             // likewise, or null: exp_avg, exp_avg_sq; momentum; square_avg, momentum; sum
    const int64_t* rows;         // (count,): positions in the data
    const double* rates;         // (steps,)
    float* outputs;              // (count, width of the output)
    float* losses;               // (steps,)
    float* norms;                // (steps,)
    unsigned char* generator;    // the state of a torch.Generator; null without dropout
    const int64_t* kept;         // (layers,): of 65536 elements, how many the dropout behind a layer keeps
    const float* class_weights;  // (classes,)
    int64_t taken;               // steps that the optimizer has taken before
    int64_t optimizer, loss, nesterov;
    double momentum, decay, epsilon, weight_decay, dampening;  // Adam's betas are the first two; RMSprop's alpha, and
    double smoothing, positive_weight, l1, l2, clip_norm;      // Adagrad's lr_decay, a `decay`. No clip_norm: below 0
};
