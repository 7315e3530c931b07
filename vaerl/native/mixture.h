// An equal-weight mixture of diagonal normals (one of them: a normal) on tiles of LANES states.
#pragma once

#include "vector.h"
#include "dense.h"

const float HALF_LOG_TWO_PI = 0.918938533f;

// `smooth_range` of vaerl/nets.py: low + width · sigmoid(slope · raw + offset).
struct Range {
    float slope, offset, width, low;

    V operator()(V raw, V& derivative) const {
        V s = sigmoid(slope * raw + offset);
        derivative = width * slope * s * (1.0f - s);
        return width * s + low;
    }
};

inline Range range_of(const float* terms) { return {terms[0], terms[1], terms[2], terms[3]}; }

// A diagonal normal whose means and then raw log σ are a network's outputs y.
struct Normal {
    int size;
    Range range;
    const V* mean;
    V *log_sigma, *sigma, *precision, *slope;

    Normal() = default;
    Normal(Arena& arena, int size, Range range) : size(size), range(range) {
        for (V** part : {&log_sigma, &sigma, &precision, &slope}) *part = arena.vectors(size);
    }

    void read(const V* y) {
        mean = y;
        for (int j = 0; j < size; j++) {
            log_sigma[j] = range(y[size + j], slope[j]);
            sigma[j] = exponential(log_sigma[j]);
            precision[j] = 1.0f / sigma[j];
        }
    }

    V log_prob(const V* x) const {
        V total = all(-size * HALF_LOG_TWO_PI);
        for (int j = 0; j < size; j++) {
            V r = (x[j] - mean[j]) * precision[j];
            total -= 0.5f * r * r + log_sigma[j];
        }
        return total;
    }

    // From the derivative in log p(x) to that in y.
    void log_prob_back(V d, const V* x, V* d_y) const {
        for (int j = 0; j < size; j++) {
            V r = (x[j] - mean[j]) * precision[j];
            d_y[j] = d * r * precision[j];
            d_y[size + j] = d * (r * r - 1.0f) * slope[j];
        }
    }
};

struct Mixture {
    int count, size;
    bool learned;        // from the head's rows; else N(0, I)
    bool weighted;       // logits of the weights follow in these rows; else all are equal
    Range range;
    const float* edges;  // of the components' shares of [0, 1)
    V *mean, *sigma, *precision, *slope, *constant, *d_mean, *d_log_sigma, *d_constant,
        *log_weight;

    Mixture() = default;
    Mixture(Arena& arena, int count, int size, bool learned, Range range, const float* edges,
            bool weighted = false)
        : count(count), size(size), learned(learned), weighted(weighted), range(range),
          edges(edges) {
        for (V** part : {&mean, &sigma, &precision, &slope, &d_mean, &d_log_sigma})
            *part = arena.vectors(count * size);
        for (V** part : {&constant, &d_constant, &log_weight}) *part = arena.vectors(count);
    }

    // That it takes of the head: means, raw log σ, logits.
    int rows() const { return (learned ? 2 * count * size : 0) + (weighted ? count : 0); }

    void load_tile(const float* head, int ld) {
        if (weighted) weigh(head + (int64_t)2 * count * size * ld, ld);
        for (int m = 0; m < count; m++) {
            constant[m] = (weighted ? log_weight[m] : all(-std::log((float)count))) - size * HALF_LOG_TWO_PI;
            d_constant[m] = V{};
            for (int i = m * size; i < (m + 1) * size; i++) {
                V log_sigma{};
                mean[i] = slope[i] = d_mean[i] = d_log_sigma[i] = V{};
                if (learned) {
                    mean[i] = load(head + (int64_t)i * ld);
                    log_sigma = range(load(head + (int64_t)(count * size + i) * ld), slope[i]);
                }
                sigma[i] = exponential(log_sigma);
                precision[i] = 1.0f / sigma[i];
                constant[m] -= log_sigma;
            }
        }
    }

    void store_tile(float* d_head, int ld) const {
        for (int i = 0; learned && i < count * size; i++) {
            store(d_head + (int64_t)i * ld, d_mean[i]);
            store(d_head + (int64_t)(count * size + i) * ld, d_log_sigma[i] * slope[i]);
        }
        V total{};
        for (int m = 0; weighted && m < count; m++) total += d_constant[m];
        for (int m = 0; weighted && m < count; m++)
            store(d_head + (int64_t)(2 * count * size + m) * ld, d_constant[m] - exponential(log_weight[m]) * total);
    }

    // Log-weights from their logits.
    void weigh(const float* logits, int ld) {
        V highest = load(logits), total{};
        for (int m = 0; m < count; m++) {
            log_weight[m] = load(logits + (int64_t)m * ld);
            highest = larger(log_weight[m], highest);
        }
        for (int m = 0; m < count; m++) total += exponential(log_weight[m] - highest);
        total = highest + logarithm(total);
        for (int m = 0; m < count; m++) log_weight[m] -= total;
    }

    // Number of the component whose share of [0, 1) holds u.
    V component(V u) const {
        V number{};
        for (int m = 0; m + 1 < count; m++) number += u >= edges[m] ? all(1.0f) : V{};
        return number;
    }

    void place(V component, const V* noise, V* x) const {
        for (int j = 0; j < size; j++) {
            x[j] = mean[j] + sigma[j] * noise[j];
            for (int m = 1; m < count; m++) {
                int i = m * size + j;
                x[j] = component == (float)m ? mean[i] + sigma[i] * noise[j] : x[j];
            }
        }
    }

    void place_back(V component, const V* noise, const V* dx) {
        for (int m = 0; m < count; m++)
            for (int j = 0; j < size; j++) {
                int i = m * size + j;
                V d = component == (float)m ? dx[j] : V{};
                d_mean[i] += d;
                d_log_sigma[i] += d * sigma[i] * noise[j];
            }
    }

    // log p(x), and each component's share in p(x).
    V log_prob(const V* x, V* shares) const {
        V highest = all(-INFINITY);
        for (int m = 0; m < count; m++) {
            V squares{};
            for (int i = m * size; i < (m + 1) * size; i++) {
                V z = (x[i - m * size] - mean[i]) * precision[i];
                squares += z * z;
            }
            shares[m] = constant[m] - 0.5f * squares;
            highest = larger(shares[m], highest);
        }
        V total{};
        for (int m = 0; m < count; m++) total += shares[m] = exponential(shares[m] - highest);
        for (int m = 0; m < count; m++) shares[m] /= total;
        return highest + logarithm(total);
    }

    void log_prob_back(V d, const V* x, const V* shares, V* dx) {
        for (int m = 0; m < count; m++) {
            d_constant[m] += d * shares[m];
            for (int j = 0; j < size; j++) {
                int i = m * size + j;
                V z = (x[j] - mean[i]) * precision[i], pull = d * shares[m] * z;
                dx[j] -= pull * precision[i];
                d_mean[i] += pull * precision[i];
                d_log_sigma[i] += pull * z - d * shares[m];
            }
        }
    }
};
