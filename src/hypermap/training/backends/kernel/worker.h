// A network's training and evaluation, one member after the other.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <utility>
#include <vector>
#include "generator.h"
#include "interface.h"
#include "losses.h"
#include "matrix.h"
#include "optimizers.h"
#include "vectors.h"

namespace {

struct Layer {
    long in, out, padded;
    long origin, place;  // where it begins in torch's vector, and in ours
    long inputs;         // what lies between its inputs' rows
};

std::vector<Layer> layers_of(const Network& network) {
    std::vector<Layer> layers;
    long origin = 0, place = 0, inputs = network.widths[0];
    for (long l = 0; l < network.layers; ++l) {
        long in = network.widths[l], out = network.widths[l + 1], padded = (out + WIDTH - 1) / WIDTH * WIDTH;
        layers.push_back({in, out, padded, origin, place, inputs});
        origin += out * in + out, place += (in + 1) * padded, inputs = padded;
    }
    return layers;
}

// Zeros, at an address that is a whole number of cache lines.
class Floats {
    float* data;

public:
    explicit Floats(long count = 0) : data((float*)::operator new((count + 64) * sizeof(float), std::align_val_t(64))) {
        std::memset((void*)data, 0, (count + 64) * sizeof(float));
    }
    Floats(Floats&& other) noexcept : data(other.data) { other.data = nullptr; }
    Floats& operator=(Floats&& other) noexcept {
        std::swap(data, other.data);
        return *this;
    }
    ~Floats() { ::operator delete(data, std::align_val_t(64)); }
    operator float*() const { return data; }
};

// What one thread needs to train or to evaluate one member after the other.
class Worker {
    const Network& network;
    const Data& data;
    const std::vector<Layer> layers = layers_of(network);
    const long size = layers.back().place + (layers.back().in + 1) * layers.back().padded, batch;
    Floats weights{size}, gradient, moments[2], rows, bits;
    std::vector<Floats> outputs, slopes, turned;  // `turned` is a layer's matrix as (out, its inputs, padded)
    Floats present, class_weights;  // of the last layer's outputs and their padding
    std::vector<int64_t> classes;
    std::vector<float> values;
    Generator generator;

    void gather(const int64_t* positions, long count) {
        const long width = network.widths[0];
        for (long b = 0; b < count; ++b) {
            const float* later = data.inputs + positions[std::min(b + 2, count - 1)] * width;
            for (long i = 0; i < width; i += 16) __builtin_prefetch(later + i);
            std::memcpy(rows + b * width, data.inputs + positions[b] * width, width * sizeof(float));
        }
        if (data.classes)
            for (long b = 0; b < count; ++b) classes[b] = data.classes[positions[b]];
        if (data.values)
            for (long b = 0; b < count; ++b) values[b] = data.values[positions[b]];
    }

    void read(const float* from, float* to) const {
        std::memset(to, 0, size * sizeof(float));  // whatever a member before has left in the padding
        for (const Layer& layer : layers) {
            transpose(from + layer.origin, layer.out, layer.in, layer.in, to + layer.place, layer.padded);
            std::memcpy(to + layer.place + layer.in * layer.padded, from + layer.origin + layer.out * layer.in,
                        4 * layer.out);
        }
    }

    void write(const float* from, float* to) const {
        for (const Layer& layer : layers) {
            transpose(from + layer.place, layer.in, layer.out, layer.padded, to + layer.origin, layer.in);
            std::memcpy(to + layer.origin + layer.out * layer.in, from + layer.place + layer.in * layer.padded,
                        4 * layer.out);
        }
    }

    // Adds the bias, activates and drops; leaves in `slope` what the gradient is to be multiplied by on its way back.
    template <int ACTIVATION, bool LEARNS>
    void activate(const Layer& layer, long count, float* y, float* slope, long kept) {
        const float* bias = weights + layer.place + layer.in * layer.padded;
        const bool drops = LEARNS && kept < 65536;
        const int32_t limit = (int32_t)kept - 32768;
        const float scale = (float)(65536.0 / kept);
        if (drops) generator.draw((uint64_t*)(float*)bits, (count * layer.out + 3) / 4);
        for (long b = 0; b < count; ++b, y += layer.padded, slope += LEARNS ? layer.padded : 0)
            for (long c = 0; c < layer.padded; c += WIDTH) {
                Vector value, derivative;
                apply<ACTIVATION>(load(y + c) + load(bias + c), value, derivative);
                if (drops) {
                    Shorts drawn;
                    std::memcpy(&drawn, (const int16_t*)(float*)bits + b * layer.out + c, sizeof drawn);
                    Vector zero = {}, mask = __builtin_convertvector(drawn, Integers) < limit ? zero + scale : zero;
                    value *= mask;
                    derivative *= mask;
                }
                store(y + c, value);
                if (LEARNS) store(slope + c, derivative);
            }
    }

    template <bool LEARNS>
    void activate(const Layer& layer, long count, float* y, float* slope, long kept) {
        switch (network.activation) {
            case RELU: return activate<RELU, LEARNS>(layer, count, y, slope, kept);
            case TANH: return activate<TANH, LEARNS>(layer, count, y, slope, kept);
            case SIGMOID: return activate<SIGMOID, LEARNS>(layer, count, y, slope, kept);
            case GELU: return activate<GELU, LEARNS>(layer, count, y, slope, kept);
            case SILU: return activate<SILU, LEARNS>(layer, count, y, slope, kept);
            default: return activate<LEAKY_RELU, LEARNS>(layer, count, y, slope, kept);
        }
    }

    // From inputs to the last layer's outputs, which go to `seen` as well.
    template <bool LEARNS>
    void forward(const float* inputs, long count, float* seen, const int64_t* kept) {
        for (size_t l = 0; l < layers.size(); ++l) {
            const Layer& layer = layers[l];
            float* y = outputs[l];
            multiply(count, layer.padded, layer.in, {inputs, layer.inputs, 1}, weights + layer.place, y);
            if (l + 1 < layers.size()) activate<LEARNS>(layer, count, y, slopes[l], LEARNS ? kept[l] : 65536);
            inputs = y;
        }
        const Layer& last = layers.back();
        const float* bias = weights + last.place + last.in * last.padded;
        float* y = outputs.back();
        for (long b = 0; b < count; ++b, y += last.padded, seen += last.out) {
            const bool over = (count - b) * last.out >= last.padded;  // room for padding, which the next row covers
            for (long c = 0; c < last.padded; c += WIDTH) {
                Vector value = load(y + c) + load(bias + c);
                store(y + c, value);
                if (over) store(seen + c, value);
            }
            if (!over) std::memcpy(seen, y, last.out * sizeof(float));
        }
    }

    // From the gradient of the last outputs, which stands in their place, to that of all weights.
    void backward(long count) {
        for (long l = (long)layers.size() - 1; l >= 0; --l) {
            const Layer& layer = layers[l];
            const float* above = outputs[l];
            const float* inputs = l > 0 ? outputs[l - 1] : rows;
            multiply(layer.in, layer.padded, count, {inputs, 1, layer.inputs}, above, gradient + layer.place);
            float* bias = gradient + layer.place + layer.in * layer.padded;
            for (long c = 0; c < layer.padded; c += WIDTH) {
                Vector column = {};
                for (long b = 0; b < count; ++b) column += load(above + b * layer.padded + c);
                store(bias + c, column);
            }
            if (l == 0) return;
            transpose(weights + layer.place, layer.in, layer.padded, layer.padded, turned[l], layer.inputs);
            float* below = outputs[l - 1];  // its values are no longer needed
            multiply(count, layer.inputs, layer.out, {above, layer.padded, 1}, turned[l], below);
            const float* slope = slopes[l - 1];
            for (long i = 0; i < count * layer.inputs; ++i) below[i] *= slope[i];
        }
    }

    double lose(const Member& member, long count) {
        const Layer& last = layers.back();
        float* y = outputs.back();
        if (member.loss == CROSS_ENTROPY)
            return cross_entropy(member.smoothing, count, last.out, last.padded, present, class_weights, y,
                                 classes.data());
        if (member.loss == MEAN_SQUARED_ERROR) return mean_squared_error(count, last.padded, y, values.data());
        return binary_cross_entropy(member.positive_weight, count, last.padded, y, values.data());
    }

    float regularize(const Member& member) {
        double squares = 0;
        for (const Layer& layer : layers) {
            const long matrix = layer.place, size = layer.in * layer.padded, bias = matrix + size;
            squares += penalize((float)member.l1, (float)member.l2, size, weights + matrix, gradient + matrix);
            squares += penalize(0, 0, layer.padded, weights + bias, gradient + bias);
        }
        return (float)std::sqrt(squares);
    }

    void descend(const Member& member, double rate, long taken, float norm) {
        float cut = 1;
        if (member.clip_norm >= 0) cut = (float)member.clip_norm / (norm + 1e-6f);
        const Pace pace{rate, (double)taken, cut > 1 ? 1 : cut};
        float* second = member.state[1] ? (float*)moments[1] : nullptr;
        switch (member.optimizer) {
            case SGD: return sgd(member, pace, size, weights, gradient, moments[0]);
            case RMSPROP: return rmsprop(member, pace, size, weights, gradient, moments[0], second);
            case ADAGRAD: return adagrad(member, pace, size, weights, gradient, moments[0]);
            default: return adam(member, pace, size, weights, gradient, moments[0], second);
        }
    }

public:
    // To train with batches of so many rows; to evaluate with as many, but `learns` false.
    Worker(const Network& network, const Data& data, long batch, bool learns)
        : network(network), data(data), batch(batch), gradient(learns ? size : 0),
          moments{Floats(learns ? size : 0), Floats(learns ? size : 0)},
          rows(learns ? batch * network.widths[0] : 0), present(layers.back().padded),
          class_weights(layers.back().padded), classes(batch), values(batch) {
        long widest = 0;
        std::fill_n((float*)present, layers.back().out, 1.0f);
        for (const Layer& layer : layers) {
            outputs.emplace_back(batch * layer.padded);
            slopes.emplace_back(learns ? batch * layer.padded : 0);
            widest = std::max(widest, layer.padded);
            turned.emplace_back(learns ? layer.padded * layer.inputs : 0);
        }
        if (learns) bits = Floats(batch * widest);
    }

    void train(const Member& member, long count) {
        read(member.weights, weights);
        for (int i = 0; i < 2; ++i)
            if (member.state[i]) read(member.state[i], moments[i]);
        if (member.generator) generator.read(member.generator);
        std::copy_n(member.class_weights, layers.back().out, (float*)class_weights);
        const long width = layers.back().out;
        for (long first = 0, step = 0; first < count; first += batch, ++step) {
            const long rows_now = std::min(batch, count - first);
            gather(member.rows + first, rows_now);
            forward<true>(rows, rows_now, member.outputs + first * width, member.kept);
            member.losses[step] = (float)lose(member, rows_now);
            backward(rows_now);
            member.norms[step] = regularize(member);
            descend(member, member.rates[step], member.taken + step + 1, member.norms[step]);
        }
        write(weights, member.weights);
        for (int i = 0; i < 2; ++i)
            if (member.state[i]) write(moments[i], member.state[i]);
        if (member.generator) generator.write(member.generator);
    }

    void evaluate(const float* vector, long first, long count, float* to) {
        read(vector, weights);
        forward<false>(data.inputs + first * network.widths[0], count, to + first * layers.back().out, nullptr);
    }
};

}  // namespace
