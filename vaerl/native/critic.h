// The critics of soft actor-critic, an object each: where its numbers lie in the flat memory that
// all critics share, its pass from inputs to a row of values, and the way back.
#pragma once

#include "renorm.h"
#include "residual.h"

// Linear layers with ReLUs, as in Stable-Baselines3.
struct PlainCritic {
    static constexpr bool SHARES_PASS = false;  // of (s, a) and (s', a')
    Network net;
    int64_t first, total;  // its first number in flat memory, and the numbers of all critics

    PlainCritic(const Spec& s, int number, int ld) {
        net = Network::of(s.critic_depth, s.critic, s.states + s.actions, 1, ld);
        net.half = s.half;
        first = number * net.size(), total = s.critics * net.size();
    }

    int kept() const {  // rows of activations
        int rows = 0;
        for (int l = 1; l < net.depth; l++) rows += net.widths[l];
        return rows;
    }
    int reread() const { return kept(); }  // the first of these, which `back` reads without a gradient
    int derived() const { return kept() + 1; }  // rows of derivatives

    void lay(float* inputs, float* kept, float* derived, float* values) {
        net.h[0] = inputs, net.h[net.depth] = values;
        for (int l = 1; l <= net.depth; l++) {
            if (l < net.depth) net.h[l] = kept;
            net.d[l] = derived;
            kept += (int64_t)net.widths[l] * net.ld, derived += (int64_t)net.widths[l] * net.ld;
        }
    }

    float* values() const { return net.h[net.depth]; }
    float* slope() const { return net.d[net.depth]; }  // derivatives in the values
    void forward(const float* flat, Span columns) const { net.forward(flat + first, columns); }

    // From `slope` to everything below; with a gradient, over all columns from 0 on.
    void back(const float* flat, Span columns, float* gradient = nullptr) const {
        net.back(flat + first, columns);
        if (gradient) net.parameters(gradient + first, columns.end, 0, 1);
    }

    // Derivatives in inputs [from, from + count), after `back`.
    void inputs(const float* flat, int from, int count, int columns, float* to) const {
        net.product({.a_across = true, .m = count, .n = columns, .k = net.widths[1],
                     .a = flat + first + from, .lda = net.widths[0], .b = net.d[1], .ldb = net.ld,
                     .c = to, .ldc = net.ld});
    }

    void adam(const Flat& flat) const { flat.adam(first, first + net.size()); }
};
