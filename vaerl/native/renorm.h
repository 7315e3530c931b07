// CrossQ's critic (Bhatt et al. 2024): batch renormalisation in front of each linear layer, and no
// target network, as `CriticNet` in vaerl/policies/critic_net.py builds it.
#pragma once

#include <algorithm>

#include "head.h"
#include "layer.h"

struct RenormCritic {
    static constexpr bool SHARES_PASS = true;
    // As in vaerl/policies/critic_layers.py.
    static constexpr float EPS = 1e-3f, MOMENTUM = 0.01f, R_MAX = 3, D_MAX = 5, LEAST = 1e-12f;

    // x̂ = (x − centre) / width of each feature, then scale and shift. In the pair of a batch, with
    // mean and variance v of both halves: centre = mean − d √v / r, width² = v / r² + ε.
    struct Norm {
        int size;
        int64_t scale, shift, mean, variance;  // places, the last two among the statistics
        float *scaled, *out;                   // x̂ and the result
        float *inverse, *offset;               // of each feature: 1 / width, mean − centre,
        float *turn, *stretch;                 // and what v does to the centre and to log width
    };

    const int depth, batch, columns, ld;  // columns: of each half
    int64_t total, statistics;            // numbers of all critics
    const float* running = nullptr;       // statistics, and what they become
    float* moved = nullptr;
    int widest = 0;
    Layer layer[MAX_DEPTH + 1];
    Norm norm[MAX_DEPTH + 1];   // each in front of its layer
    float* h[MAX_DEPTH + 1];    // in front of each norm
    float *result, *d_value, *d[2];

    RenormCritic(const Spec& s, int number, int ld)
        : depth(s.critic_depth), batch(s.batch), columns((batch + LANES - 1) / LANES * LANES), ld(ld) {
        Places places{s.critics, number}, moments{s.critics, number};
        for (int l = 0, in = s.states + s.actions; l <= depth; l++) {
            const int out = l < depth ? s.critic[l] : 1;
            norm[l] = Norm{}, norm[l].size = in;
            norm[l].scale = places.take(in), norm[l].shift = places.take(in);
            norm[l].mean = moments.take(in), norm[l].variance = moments.take(in);
            layer[l] = Layer::of(places, in, out, ld, s.half);
            widest = std::max(widest, in), in = out;
        }
        total = places.total, statistics = moments.total;
    }

    int reread() const {
        int rows = 0;
        for (int l = 1; l <= depth; l++) rows += norm[l].size;
        return rows;
    }
    int kept() const {
        int rows = reread();
        for (int l = 0; l <= depth; l++) rows += 2 * norm[l].size + 4 * scalars(l);
        return rows;
    }
    int scalars(int l) const { return (norm[l].size + ld - 1) / ld; }  // rows of a number a feature
    int derived() const { return 2 * widest + 1; }

    void lay(float* inputs, float* kept, float* derived, float* values) {
        auto take = [&](float*& from, int count) { return next_rows(from, count, ld); };
        h[0] = inputs, result = values;
        for (int l = 1; l <= depth; l++) h[l] = take(kept, norm[l].size);
        for (int l = 0; l <= depth; l++) {
            Norm& n = norm[l];
            n.scaled = take(kept, n.size), n.out = take(kept, n.size);
            for (float** each : {&n.inverse, &n.offset, &n.turn, &n.stretch})
                *each = take(kept, scalars(l));
        }
        for (float*& each : d) each = take(derived, widest);
        d_value = take(derived, 1);
    }

    float* values() const { return result; }
    float* slope() const { return d_value; }

    // By the running statistics.
    void forward(const float* flat, Span span) const {
        for (int l = 0; l <= depth; l++) {
            const Norm& n = norm[l];
            for (int r = 0; r < n.size; r++) {
                const float by = factor(flat, n, r);
                const float to = flat[n.shift + r] - running[n.mean + r] * by;
                each(span, r, [&](int64_t at) { store(n.out + at, load(h[l] + at) * by + to); });
            }
            onwards(flat, l, span);
        }
    }

    // Derivatives after `forward`, down to the result of the first norm.
    void back(const float* flat, Span span) const {
        const float* dy = d_value;
        for (int l = depth; l >= 0; l--) {
            float* dx = d[l % 2];
            layer[l].back(flat, dy, dx, span, l ? h[l] : nullptr);
            for (int r = 0; l && r < norm[l].size; r++) {
                const float by = factor(flat, norm[l], r);
                each(span, r, [&](int64_t at) { store(dx + at, load(dx + at) * by); });
            }
            dy = dx;
        }
    }

    void inputs(const float* flat, int from, int count, int width, float* to) const {
        for (int r = from; r < from + count; r++, to += ld) {
            const float by = factor(flat, norm[0], r), *dx = d[0] + (int64_t)r * ld;
            for (int c = 0; c < width; c += LANES) store(to + c, load(dx + c) * by);
        }
    }

    // Of (s, a) and, `columns` further, (s', a') in one pass by their own statistics.
    void forward_pair(const float* flat, bool renormalise) const {
        for (int l = 0; l <= depth; l++) {
            const Norm& n = norm[l];
            for (int r = 0; r < n.size; r++) {
                const float centre = measure(l, r, renormalise), inverse = n.inverse[r];
                const float scale = flat[n.scale + r], shift = flat[n.shift + r];
                each({0, 2 * columns}, r, [&](int64_t at) {
                    V scaled = (load(h[l] + at) - centre) * inverse;
                    store(n.scaled + at, scaled);
                    store(n.out + at, scaled * scale + shift);
                });
            }
            onwards(flat, l, {0, 2 * columns});
        }
    }

    // The gradient after `forward_pair`; `slope` holds both halves.
    void back_pair(const float* flat, float* gradient) const {
        const float* dy = d_value;
        for (int l = depth; l >= 0; l--) {
            float* dx = d[l % 2];
            layer[l].gradient(gradient, dy, norm[l].out, 2 * columns);
            layer[l].back(flat, dy, dx, {0, 2 * columns});
            for (int r = 0; r < norm[l].size; r++) normalise_back(flat, l, r, dx, gradient);
            dy = dx;
        }
    }

    void adam(const Flat& flat) const {
        for (int l = 0; l <= depth; l++) {
            const Norm& n = norm[l];
            flat.adam(n.scale, n.scale + n.size), flat.adam(n.shift, n.shift + n.size);
            layer[l].adam(flat);
        }
    }

    // The statistics of the pair become the running ones.
    void settle(float* statistics) const {
        for (const Norm* n = norm; n <= norm + depth; n++)
            for (int64_t place : {n->mean, n->variance})
                memcpy(statistics + place, moved + place, n->size * sizeof(float));
    }

  private:
    template <class Visit>
    void each(Span span, int row, Visit visit) const {
        for (int c = span.begin; c < span.end; c += LANES) visit((int64_t)row * ld + c);
    }

    // Calls visit(place, real) for all columns of a row, where `real` is 0 in those without a state.
    template <class Visit>
    void each_real(int row, Visit visit) const {
        for (int half = 0; half < 2; half++)
            for (int c = 0; c < columns; c += LANES) {
                V real = all(1);
                for (int lane = batch - c; lane < LANES; lane++) real[lane] = 0;
                visit((int64_t)row * ld + half * columns + c, real);
            }
    }

    void onwards(const float* flat, int l, Span span) const {
        const bool inner = l < depth;
        layer[l].forward(flat, norm[l].out, inner ? h[l + 1] : result, span,
                         {.floor = inner ? 0 : -INFINITY});
    }

    float factor(const float* flat, const Norm& n, int r) const {
        return flat[n.scale + r] / std::sqrt(running[n.variance + r] + EPS);
    }

    // Mean and variance of a feature over both halves, and what follows from them; returns the centre.
    float measure(int l, int r, bool renormalise) const {
        const Norm& n = norm[l];
        const int count = 2 * batch;
        V total{}, squares{};
        each_real(r, [&](int64_t at, V real) { total += load(h[l] + at) * real; });
        const float mean = sum(total) / count;
        each_real(r, [&](int64_t at, V real) {
            V gap = (load(h[l] + at) - mean) * real;
            squares += gap * gap;
        });
        const float v = sum(squares) / (count - 1), old = running[n.mean + r];
        const float spread = std::sqrt(running[n.variance + r] + EPS);
        float ratio = 1, d = 0, deviation = v > LEAST ? std::sqrt(v) : 0;
        if (renormalise) {
            ratio = std::clamp(std::sqrt(v + EPS) / spread, 1 / R_MAX, R_MAX);
            d = std::clamp((mean - old) / spread, -D_MAX, D_MAX);
        }
        n.inverse[r] = 1 / std::sqrt(v / (ratio * ratio) + EPS) + v * 0;  // NaN where v overflows
        n.offset[r] = d * deviation / ratio;
        n.turn[r] = v > LEAST ? d / (2 * ratio * deviation) : 0;
        n.stretch[r] = n.inverse[r] / (2 * ratio * ratio);
        moved[n.mean + r] = old + MOMENTUM * (mean - old);
        moved[n.variance + r] = running[n.variance + r] + MOMENTUM * (v - running[n.variance + r]);
        return mean - n.offset[r];
    }

    // From the derivatives in a feature of the result, in dx, to those in front of the norm, and of
    // inner ones in front of the ReLU.
    void normalise_back(const float* flat, int l, int r, float* dx, float* gradient) const {
        const Norm& n = norm[l];
        const int count = 2 * batch;
        V total{}, along{};
        each({0, 2 * columns}, r, [&](int64_t at) {
            total += load(dx + at), along += load(dx + at) * load(n.scaled + at);
        });
        const float s = sum(total), t = sum(along);
        gradient[n.shift + r] = s, gradient[n.scale + r] = t;
        if (!l) return;
        const float by = flat[n.scale + r] * n.inverse[r], width = 1 / n.inverse[r];
        const float of_gap = 2 * (s * n.turn[r] - t * n.stretch[r]) / (count - 1);
        each_real(r, [&](int64_t at, V real) {
            V gap = load(n.scaled + at) * width - n.offset[r];  // x − mean
            V found = by * (load(dx + at) - s / count + gap * of_gap) * real;
            store(dx + at, load(h[l] + at) > 0.0f ? found : V{});
        });
    }
};
