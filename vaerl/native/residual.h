// SimBa's critic (Lee et al. 2024): a stem, blocks x + W₂ ReLU(W₁ norm(x) + b₁) + b₂, a norm and the
// head, with layer normalisation, as `CriticNet` in vaerl/policies/critic_net.py builds it.
#pragma once

#include "head.h"
#include "layer.h"

struct ResidualCritic {
    static constexpr bool SHARES_PASS = false;
    static constexpr int EXPANSION = 4;
    struct Norm {
        int64_t scale, shift;
        float *scaled, *inverse, *out;  // (x − mean) / deviation, 1 / deviation, the result
    };
    struct Block {
        Norm norm;
        Layer up, down;
        float* hidden;
    };

    const int width, blocks, ld;
    int64_t total;
    Layer stem, head;
    Block block[MAX_DEPTH];
    Norm last;
    float *x, *result, *taken;                // the stream, the values, the inputs
    float *dx, *d_hidden, *d_norm, *d_value;  // derivatives

    ResidualCritic(const Spec& s, int number, int ld)
        : width(s.critic[0]), blocks(s.critic_depth), ld(ld) {
        Places places{s.critics, number};
        auto layer = [&](int in, int out) { return Layer::of(places, in, out, ld, s.half); };
        auto norm = [&] {
            int64_t scale = places.take(width), shift = places.take(width);
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
        total = places.total;
    }

    int reread() const { return blocks * EXPANSION * width + (blocks + 1) * (width + 1); }
    int kept() const { return reread() + (blocks + 2) * width; }
    int derived() const { return (2 + EXPANSION) * width + 1; }

    void lay(float* inputs, float* kept, float* derived, float* values) {
        auto rows = [&](float*& from, int count) { return next_rows(from, count, ld); };
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
        stem.forward(flat, taken, x, columns);
        for (int n = 0; n < blocks; n++) {
            const Block& b = block[n];
            normalise(flat, b.norm, columns);
            b.up.forward(flat, b.norm.out, b.hidden, columns, {.floor = 0});
            b.down.forward(flat, b.hidden, x, columns, {.add = true});
        }
        normalise(flat, last, columns);
        head.forward(flat, last.out, result, columns);
    }

    void back(const float* flat, Span columns, float* gradient = nullptr) const {
        auto learn = [&](const Layer& layer, const float* d, const float* from) {
            if (gradient) layer.gradient(gradient, d, from, columns.end);
        };
        learn(head, d_value, last.out);
        head.back(flat, d_value, d_norm, columns);
        normalise_back(flat, last, columns, gradient, false);
        for (int n = blocks - 1; n >= 0; n--) {
            const Block& b = block[n];
            learn(b.down, dx, b.hidden);
            b.down.back(flat, dx, d_hidden, columns, b.hidden);
            learn(b.up, d_hidden, b.norm.out);
            b.up.back(flat, d_hidden, d_norm, columns);
            normalise_back(flat, b.norm, columns, gradient, true);
        }
        learn(stem, dx, taken);
    }

    void inputs(const float* flat, int from, int count, int columns, float* to) const {
        stem.inputs(flat, dx, from, count, columns, to);
    }

    void adam(const Flat& flat) const {
        auto norm = [&](const Norm& of) {
            flat.adam(of.scale, of.scale + width), flat.adam(of.shift, of.shift + width);
        };
        for (int n = 0; n < blocks; n++)
            norm(block[n].norm), block[n].up.adam(flat), block[n].down.adam(flat);
        stem.adam(flat), norm(last), head.adam(flat);
    }

  private:
    Norm& norm(int n) { return n < blocks ? block[n].norm : last; }

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
            inverse += squares * 0.0f;  // NaN where they overflow
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
