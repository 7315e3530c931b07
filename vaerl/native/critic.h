// The critics of soft actor-critic, an object each: where its numbers lie in the flat memory that
// all critics share, its pass from inputs to a row of values, and the way back.
#pragma once

#include "head.h"

// Linear layers with ReLUs, as in Stable-Baselines3.
struct PlainCritic {
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
    int reread() const { return kept(); }    // of these, from the first on, what `back` reads without a gradient
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

// A stem, blocks x + W₂ ReLU(W₁ norm(x) + b₁) + b₂, a norm and the head, with layer normalisation
// (SimBa, Lee et al. 2024), as `CriticNet` in vaerl/policies/critic_net.py builds it. In flat
// memory each tensor holds its part of all critics.
struct ResidualCritic {
    struct Layer {
        int in, out;
        int64_t w, b;
    };
    struct Norm {
        int64_t scale, shift;
        float *scaled, *inverse, *out;  // (x − mean) / deviation, 1 / deviation, the result
    };
    struct Block {
        Norm norm;
        Layer up, down;
        float* hidden;
    };

    static constexpr int EXPANSION = 4;
    const int width, blocks, ld;
    const bool half;
    int64_t total = 0;
    Layer stem, head;
    Block block[MAX_DEPTH];
    Norm last;
    float *x, *result, *taken;               // the stream, the values, the inputs
    float *dx, *d_hidden, *d_norm, *d_value;  // derivatives

    ResidualCritic(const Spec& s, int number, int ld)
        : width(s.critic[0]), blocks(s.critic_depth), ld(ld), half(s.half) {
        auto tensor = [&](int64_t count) {
            int64_t at = total + number * count;
            total += Network::padded(s.critics * count);
            return at;
        };
        auto layer = [&](int in, int out) {
            int64_t w = tensor(in * out), b = tensor(out);
            return Layer{in, out, w, b};
        };
        auto norm = [&] {
            int64_t scale = tensor(width), shift = tensor(width);
            return Norm{scale, shift, nullptr, nullptr, nullptr};
        };
        stem = layer(s.states + s.actions, width);
        for (int n = 0; n < blocks; n++) {
            block[n].norm = norm();
            block[n].up = layer(width, EXPANSION * width);
            block[n].down = layer(EXPANSION * width, width);
        }
        last = norm();
        head = layer(width, 1);
    }

    int reread() const { return blocks * EXPANSION * width + (blocks + 1) * (width + 1); }
    int kept() const { return reread() + (blocks + 2) * width; }
    int derived() const { return (2 + EXPANSION) * width + 1; }

    void lay(float* inputs, float* kept, float* derived, float* values) {
        auto rows = [&](float*& from, int count) {
            float* piece = from;
            from += (int64_t)count * ld;
            return piece;
        };
        for (int n = 0; n < blocks; n++) block[n].hidden = rows(kept, EXPANSION * width);
        for (int n = 0; n <= blocks; n++) norm(n).scaled = rows(kept, width);
        for (int n = 0; n <= blocks; n++) norm(n).inverse = rows(kept, 1);
        for (int n = 0; n <= blocks; n++) norm(n).out = rows(kept, width);
        x = rows(kept, width), taken = inputs, result = values;
        dx = rows(derived, width), d_norm = rows(derived, width);
        d_hidden = rows(derived, EXPANSION * width), d_value = rows(derived, 1);
    }

    float* values() const { return result; }
    float* slope() const { return d_value; }

    void forward(const float* flat, Span columns) const {
        linear(flat, stem, taken, x, columns, {});
        for (int n = 0; n < blocks; n++) {
            const Block& b = block[n];
            normalise(flat, b.norm, columns);
            linear(flat, b.up, b.norm.out, b.hidden, columns, {.floor = 0});
            linear(flat, b.down, b.hidden, x, columns, {.add = true});
        }
        normalise(flat, last, columns);
        linear(flat, head, last.out, result, columns, {});
    }

    void back(const float* flat, Span columns, float* gradient = nullptr) const {
        auto learn = [&](const Layer& of, const float* d, const float* h) {
            if (gradient)
                linear_gradient(half, {0, of.out}, of.in, columns.end, d, h, ld, gradient + of.w,
                                gradient + of.b);
        };
        learn(head, d_value, last.out);
        linear_back(flat, head, d_value, d_norm, columns);
        normalise_back(flat, last, columns, gradient, false);
        for (int n = blocks - 1; n >= 0; n--) {
            const Block& b = block[n];
            learn(b.down, dx, b.hidden);
            linear_back(flat, b.down, dx, d_hidden, columns, b.hidden);
            learn(b.up, d_hidden, b.norm.out);
            linear_back(flat, b.up, d_hidden, d_norm, columns);
            normalise_back(flat, b.norm, columns, gradient, true);
        }
        learn(stem, dx, taken);
    }

    void inputs(const float* flat, int from, int count, int columns, float* to) const {
        product_of(half, {.a_across = true, .m = count, .n = columns, .k = width,
                          .a = flat + stem.w + from, .lda = stem.in, .b = dx, .ldb = ld,
                          .c = to, .ldc = ld});
    }

    void adam(const Flat& flat) const {
        auto step = [&](int64_t at, int64_t count) { flat.adam(at, at + count); };
        auto layer = [&](const Layer& of) { step(of.w, of.in * of.out), step(of.b, of.out); };
        auto norm = [&](const Norm& of) { step(of.scale, width), step(of.shift, width); };
        layer(stem), norm(last), layer(head);
        for (int n = 0; n < blocks; n++) norm(block[n].norm), layer(block[n].up), layer(block[n].down);
    }

  private:
    Norm& norm(int n) { return n < blocks ? block[n].norm : last; }

    // to = W from + b, and what `then` asks for.
    void linear(const float* flat, const Layer& of, const float* from, float* to, Span columns,
                Factors then) const {
        then.m = of.out, then.n = columns.size(), then.k = of.in;
        then.a = flat + of.w, then.lda = of.in, then.bias = flat + of.b;
        then.b = from + columns.begin, then.c = to + columns.begin;
        then.ldb = then.ldc = ld;
        product_of(half, then);
    }

    // to = Wᵀ d, 0 where `on` is not positive.
    void linear_back(const float* flat, const Layer& of, const float* d, float* to, Span columns,
                     const float* on = nullptr) const {
        product_of(half, {.a_across = true, .m = of.in, .n = columns.size(), .k = of.out,
                          .a = flat + of.w, .lda = of.in, .b = d + columns.begin, .ldb = ld,
                          .c = to + columns.begin, .ldc = ld,
                          .on = on ? on + columns.begin : nullptr});
    }

    // (x − mean) / √(variance + 1e-5) over the rows of a column, then scale and shift.
    void normalise(const float* flat, const Norm& of, Span columns) const {
        const float *scale = flat + of.scale, *shift = flat + of.shift;
        for (int c = columns.begin; c < columns.end; c += LANES) {
            V mean{}, squares{}, inverse;
            for (int r = 0; r < width; r++) mean += load(x + (int64_t)r * ld + c);
            mean *= 1.0f / width;
            for (int r = 0; r < width; r++) {
                V gap = load(x + (int64_t)r * ld + c) - mean;
                squares += gap * gap;
            }
            for (int lane = 0; lane < LANES; lane++)
                inverse[lane] = 1 / std::sqrt(squares[lane] / width + 1e-5f);
            store(of.inverse + c, inverse);
            for (int r = 0; r < width; r++) {
                V scaled = (load(x + (int64_t)r * ld + c) - mean) * inverse;
                store(of.scaled + (int64_t)r * ld + c, scaled);
                store(of.out + (int64_t)r * ld + c, scaled * scale[r] + shift[r]);
            }
        }
    }

    // From the derivatives in its result, `d_norm`, to those in the stream: `dx`, or more of it.
    void normalise_back(const float* flat, const Norm& of, Span columns, float* gradient, bool add) const {
        const float* scale = flat + of.scale;
        for (int c = columns.begin; c < columns.end; c += LANES) {
            V along{}, mean{}, inverse = load(of.inverse + c);
            for (int r = 0; r < width; r++) {
                V d = load(d_norm + (int64_t)r * ld + c) * scale[r];
                mean += d, along += d * load(of.scaled + (int64_t)r * ld + c);
            }
            mean *= 1.0f / width, along *= 1.0f / width;
            for (int r = 0; r < width; r++) {
                const int64_t at = (int64_t)r * ld + c;
                V d = load(d_norm + at) * scale[r];
                d = (d - mean - load(of.scaled + at) * along) * inverse;
                store(dx + at, add ? load(dx + at) + d : d);
            }
        }
        for (int r = 0; gradient && r < width; r++) {
            V along{}, total{};
            for (int c = 0; c < columns.end; c += LANES) {
                V d = load(d_norm + (int64_t)r * ld + c);
                total += d, along += d * load(of.scaled + (int64_t)r * ld + c);
            }
            gradient[of.scale + r] = sum(along), gradient[of.shift + r] = sum(total);
        }
    }
};
