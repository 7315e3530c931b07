// Parts of critics whose tensors each hold their part of all critics, one behind the other.
#pragma once

#include "dense.h"

// Hands out the places of critic `number` of `critics` in such tensors; `total`: in all so far.
struct Places {
    int critics, number;
    int64_t total = 0;

    int64_t take(int64_t count) {
        int64_t at = total + number * count;
        total += Network::padded(critics * count);
        return at;
    }
};

// The next rows of `from`, which moves on.
inline float* next_rows(float*& from, int count, int ld) {
    float* piece = from;
    from += (int64_t)count * ld;
    return piece;
}

// A linear layer y = W x + b over columns.
struct Layer {
    int in = 0, out = 0, ld = 0;
    bool half = false;
    int64_t w = 0, b = 0;  // places in flat memory

    static Layer of(Places& places, int in, int out, int ld, bool half) {
        Layer made{in, out, ld, half};
        made.w = places.take((int64_t)in * out), made.b = places.take(out);
        return made;
    }

    // y, and what `then` asks for.
    void forward(const float* flat, const float* x, float* y, Span columns, Factors then = {}) const {
        then.m = out, then.n = columns.size(), then.k = in;
        then.a = flat + w, then.lda = in, then.bias = flat + b;
        then.b = x + columns.begin, then.c = y + columns.begin;
        then.ldb = then.ldc = ld;
        product_of(half, then);
    }

    // Derivatives in x, 0 where `on` is not positive.
    void back(const float* flat, const float* dy, float* dx, Span columns, const float* on = nullptr) const {
        product_of(half, {.a_across = true, .m = in, .n = columns.size(), .k = out,
                          .a = flat + w, .lda = in, .b = dy + columns.begin, .ldb = ld,
                          .c = dx + columns.begin, .ldc = ld,
                          .on = on ? on + columns.begin : nullptr});
    }

    // Derivatives in inputs [from, from + count).
    void inputs(const float* flat, const float* dy, int from, int count, int columns, float* to) const {
        product_of(half, {.a_across = true, .m = count, .n = columns, .k = out, .a = flat + w + from,
                          .lda = in, .b = dy, .ldb = ld, .c = to, .ldc = ld});
    }

    // Derivatives in W and b, over columns [0, count).
    void gradient(float* flat, const float* dy, const float* x, int count) const {
        linear_gradient(half, {0, out}, in, count, dy, x, ld, flat + w, flat + b);
    }

    void adam(const Flat& flat) const { flat.adam(w, w + in * out), flat.adam(b, b + out); }
};
