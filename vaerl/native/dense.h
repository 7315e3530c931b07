// Flat memory, matrix products and stacks of linear layers with ReLUs between them.
// Matrices lie row by row, a row holds one feature of all states.
#pragma once

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#include "product.h"

// Hands out pieces of a block of memory; without a block it only counts them.
struct Arena {
    float* base;
    int64_t used = 0;

    float* take(int64_t count) {
        float* piece = base ? base + used : nullptr;
        used += (count + 15) / 16 * 16;
#ifdef __SANITIZE_ADDRESS__  // a gap that nobody may touch
        if (base) __asan_unpoison_memory_region(piece, (base + used - piece) * sizeof(float));
        if (base) __asan_poison_memory_region(base + used, 16 * sizeof(float));
        used += 16;
#endif
        return piece;
    }

    V* vectors(int64_t count) { return (V*)take(count * LANES); }
};

// Parameters with their gradient and moments, four blocks of the same layout, and Adam's settings.
struct Flat {
    float *value, *gradient, *mean, *square;
    float lr, beta1, beta2, eps;
    int64_t step, size;

    Flat from(int64_t at) const {
        Flat part = *this;
        part.value += at, part.gradient += at, part.mean += at, part.square += at;
        return part;
    }

    bool finite_gradient() const {
        V total{};
        for (int64_t i = 0; i < size; i += LANES) total += load(gradient + i) * 0.0f;
        return sum(total) == 0;
    }

    // One step of Adam (Kingma & Ba 2015) on numbers [begin, end).
    void adam(int64_t begin, int64_t end) const {
        float slow = 1 - std::pow((double)beta1, (double)step);
        float root = std::sqrt(1 - std::pow((double)beta2, (double)step));
        float rate = lr / slow, keep1 = beta1, keep2 = beta2, floor = eps;
        float *p = value, *m = mean, *v = square;
        const float* g = gradient;
#pragma GCC ivdep
        for (int64_t i = begin; i < end; i++) {
            m[i] = m[i] * keep1 + g[i] * (1 - keep1);
            v[i] = v[i] * keep2 + g[i] * g[i] * (1 - keep2);
            p[i] -= rate * m[i] / (std::sqrt(v[i]) / root + floor);
        }
    }
};

struct Span {
    int begin, end;
    int size() const { return end - begin; }
};

// Part number `part` of [0, count) in `parts`, cut at multiples of `unit`.
inline Span share(int count, int part, int parts, int unit) {
    int units = (count + unit - 1) / unit;
    int begin = units * part / parts * unit, end = units * (part + 1) / parts * unit;
    return {begin < count ? begin : count, end < count ? end : count};
}

// Of factors as they are, or rounded to bfloat16.
inline void product_of(bool half, const Factors& factors) {
    half ? product_bfloat16(factors) : product_float32(factors);
}

// Derivatives in some rows of a linear layer's W and b, from those in its outputs, d, and its inputs
// h, summed over columns [0, count); `add`: to what is there.
inline void linear_gradient(bool half, Span rows, int in, int count, const float* d, const float* h,
                            int ld, float* w, float* b, bool add = false) {
    product_of(half, {.b_across = true, .m = rows.size(), .n = in, .k = count,
                      .a = d + (int64_t)rows.begin * ld, .lda = ld, .b = h, .ldb = ld,
                      .c = w + (int64_t)rows.begin * in, .ldc = in, .add = add});
    for (int r = rows.begin; r < rows.end; r++) {
        V total{};
        for (int c = 0; c < count; c += LANES) total += load(d + (int64_t)r * ld + c);
        b[r] = sum(total) + (add ? b[r] : 0);
    }
}

const int MAX_DEPTH = 8;

enum Activation { RELU, TANH, SILU };

// Linear layers of the given widths, an activation after each but the last. In flat memory:
// W b W b …
struct Network {
    int depth;
    int widths[MAX_DEPTH + 2];
    int ld;                     // floats from one row of an activation to the next
    float* h[MAX_DEPTH + 2];    // activations: inputs first, outputs last
    float* d[MAX_DEPTH + 2];    // derivatives of the loss in these
    bool half;                  // products of factors rounded to bfloat16
    Activation activation;
    float* slope[MAX_DEPTH + 2];  // of SiLUs

    static Network of(int depth, const int32_t* hidden, int in, int out, int ld) {
        Network made{};
        made.depth = depth + 1, made.ld = ld;
        made.widths[0] = in, made.widths[depth + 1] = out;
        for (int l = 0; l < depth; l++) made.widths[l + 1] = hidden[l];
        return made;
    }

    int64_t weight(int l) const {  // place of W of layer l in flat memory; its b follows
        int64_t at = 0;
        for (int i = 0; i < l; i++) at += padded(widths[i + 1] * widths[i]) + padded(widths[i + 1]);
        return at;
    }
    int64_t bias(int l) const { return weight(l) + padded(widths[l + 1] * widths[l]); }
    int64_t size() const { return weight(depth); }
    static int64_t padded(int64_t count) { return (count + 15) / 16 * 16; }

    void product(const Factors& factors) const { product_of(half, factors); }

    void forward(const float* flat, Span columns) const {
        for (int l = 0; l < depth; l++) {
            const bool inner = l + 1 < depth;
            product({.m = widths[l + 1], .n = columns.size(), .k = widths[l],
                     .a = flat + weight(l), .lda = widths[l],
                     .b = h[l] + columns.begin, .ldb = ld,
                     .c = h[l + 1] + columns.begin, .ldc = ld,
                     .bias = flat + bias(l),
                     .floor = inner && activation == RELU ? 0 : -INFINITY});
            if (inner && activation == TANH)
                each(h[l + 1], widths[l + 1], columns,
                     [](float* at) { store(at, hyperbolic_tangent(load(at))); });
            if (inner && activation == SILU)
                each(h[l + 1], widths[l + 1], columns, [&](float* at) {
                    V x = load(at), s = sigmoid(x), y = x * s;
                    store(at, y);
                    store(slope[l + 1] + (at - h[l + 1]), s + y * (1.0f - s));
                });
        }
    }

    // Derivatives in the activations, from d[depth] down to d[1].
    void back(const float* flat, Span columns) const {
        for (int l = depth - 1; l > 0; l--) {
            product({.a_across = true, .m = widths[l], .n = columns.size(), .k = widths[l + 1],
                     .a = flat + weight(l), .lda = widths[l],
                     .b = d[l + 1] + columns.begin, .ldb = ld,
                     .c = d[l] + columns.begin, .ldc = ld,
                     .on = activation == RELU ? h[l] + columns.begin : nullptr});
            if (activation == RELU) continue;
            each(d[l], widths[l], columns, [&](float* at) {
                V y = load((activation == SILU ? slope[l] : h[l]) + (at - d[l]));
                store(at, load(at) * (activation == SILU ? y : 1.0f - y * y));
            });
        }
    }

    // Calls visit(place) for every vector of some rows in these columns.
    template <class Visit>
    void each(float* from, int rows, Span columns, Visit visit) const {
        for (int r = 0; r < rows; r++)
            for (int c = columns.begin; c < columns.end; c += LANES) visit(from + (int64_t)r * ld + c);
    }

    // Derivatives in the inputs, from d[1].
    void inputs(const float* flat, int count, float* to) const {
        product({.a_across = true, .m = widths[0], .n = count, .k = widths[1], .a = flat,
                 .lda = widths[0], .b = d[1], .ldb = ld, .c = to, .ldc = ld});
    }

    // Derivatives in `part` of `parts` of the parameters, summed over columns [0, count); `add`:
    // to what is there.
    void parameters(float* gradient, int count, int part, int parts, bool add = false) const {
        for (int l = 0; l < depth; l++)
            linear_gradient(half, share(widths[l + 1], part, parts, 16), widths[l], count, d[l + 1],
                            h[l], ld, gradient + weight(l), gradient + bias(l), add);
    }
};
