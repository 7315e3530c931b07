// The squashed density of a policy on tiles of LANES states: a mixture of normals (one of them is
// the Gaussian), or a latent density with one layer, whose log-density is the upper bound U_k.
#pragma once

#include "film.h"
#include "mixture.h"

// Everything of a density that has a size; laid out as `Spec` in vaerl/native/sac.py.
struct Spec {
    int32_t states, actions, batch, critics, threads, half, kind;
    int32_t trunk_depth, trunk[MAX_DEPTH], critic_depth, critic[MAX_DEPTH];
    int32_t latent, components, learned, latent_dim, hidden, blocks, paths;
    float action_range[4], latent_range[4], prior_range[4], share;
};

// Random numbers of one pass, as torch draws them: a row a state, paths outermost.
struct Noise {
    const float *uniform, *prior, *action, *posterior, *share;
};

struct Head {
    int batch, actions, latent_dim, paths;
    bool latent;
    float share;
    Range action_range, latent_range;
    Mixture mixture;  // of the actions, or the prior of the latents
    Film decoder, encoder;
    V *route, *inference;  // the decoder's paths and the encoder's one
    V *component, *from_prior, *noise, *shares, *prior_part, *log_w;       // of each path
    V *slope, *sigma, *precision, *action_noise;                          // of its decoder
    V *q_slope, *q_sigma, *q_precision, *dq, *x, *dx, *dz, *d_in;

    Head() = default;
    Head(Arena& arena, const Spec& s, const float* edges)
        : batch(s.batch), actions(s.actions), latent_dim(s.latent_dim), paths(s.paths + 1),
          latent(s.latent), share(s.share), action_range(range_of(s.action_range)),
          latent_range(range_of(s.latent_range)) {
        int size = latent ? latent_dim : actions;
        Range range = latent ? range_of(s.prior_range) : action_range;
        mixture = Mixture(arena, s.components, size, s.learned, range, edges);
        if (latent) {
            decoder = Film(arena, latent_dim, s.hidden, 2 * actions, s.blocks);
            encoder = Film(arena, actions, s.hidden, 2 * latent_dim, s.blocks);
            route = arena.vectors(paths * decoder.step());
            inference = arena.vectors(encoder.step());
        }
        for (V** each : {&component, &from_prior, &prior_part, &log_w}) *each = arena.vectors(paths);
        for (V** each : {&slope, &sigma, &precision}) *each = arena.vectors(paths * actions);
        for (V** each : {&q_slope, &q_sigma, &q_precision, &action_noise})
            *each = arena.vectors(latent_dim + actions);
        for (V** each : {&x, &dx, &dz, &d_in}) *each = arena.vectors(rows_of(latent_dim + actions));
        noise = arena.vectors(paths * size);
        shares = arena.vectors(paths * s.components);
        dq = arena.vectors(2 * latent_dim);
    }

    int rows() const { return mixture.rows() + (latent ? decoder.rows() + encoder.rows() : 0); }

    // Reads the weights behind the head's rows; `write` adds their gradient.
    void read(float* flat) {
        if (!latent) return;
        auto read = [](Linear& layer, float* at) { layer.read(at); };
        encoder.each(decoder.each(flat, read), read);
    }
    void write(float* gradient) {
        if (!latent) return;
        auto write = [](Linear& layer, float* at) { layer.write(at); };
        encoder.each(decoder.each(gradient, write), write);
    }
    int64_t size() {  // floats in flat memory
        int64_t total = 0;
        auto count = [&](Linear& layer, float*) { total += layer.size(); };
        if (latent) encoder.each(decoder.each(nullptr, count), count);
        return Network::padded(total);
    }

    // x = u before the squash, in `x`; returns log π(tanh u).
    V forward(const float* head, int ld, const Noise& from, int first) {
        V log_prob = latent ? draw_latent(head, ld, from, first) : draw(head, ld, from, first);
        for (int j = 0; j < actions; j++) log_prob -= log_slope_of_tanh(x[j]);
        return log_prob;
    }

    // After `forward` on the same tile: from the derivatives in tanh x (at `dx`) and in log π to
    // those in the head's rows.
    void backward(V d, float* d_head, int ld) {
        for (int j = 0; j < actions; j++) {
            V a = hyperbolic_tangent(x[j]);
            dx[j] = dx[j] * (1.0f - a * a) + 2.0f * d * a;
        }
        if (latent) {
            back_latent(d);
            decoder.store_tile(d_head, ld);
            encoder.store_tile(d_head + (int64_t)decoder.rows() * ld, ld);
            d_head += (int64_t)(decoder.rows() + encoder.rows()) * ld;
        } else {
            mixture.log_prob_back(d, x, shares, dx);
            mixture.place_back(component[0], noise, dx);
        }
        mixture.store_tile(d_head, ld);
    }

  private:
    V draw(const float* head, int ld, const Noise& from, int first) {
        mixture.load_tile(head, ld);
        component[0] = mixture.component(from.uniform ? gather(from.uniform, first, batch, 1) : V{});
        for (int j = 0; j < actions; j++)
            noise[j] = gather(from.action + j, first, batch, actions);
        mixture.place(component[0], noise, x);
        return mixture.log_prob(x, shares);
    }

    V draw_latent(const float* head, int ld, const Noise& from, int first) {
        const int Z = latent_dim, X = actions, M = mixture.count;
        decoder.load_tile(head, ld);
        encoder.load_tile(head + (int64_t)decoder.rows() * ld, ld);
        mixture.load_tile(head + (int64_t)(decoder.rows() + encoder.rows()) * ld, ld);
        for (int i = 0; i < paths; i++) {
            V *path = route + i * decoder.step(), *z = path + decoder.x(), *e = noise + i * Z;
            from_prior[i] = all(i == 0 ? 1.0f : 0.0f);
            if (i == 0 || share > 0) {
                const float* u = from.uniform ? from.uniform + (int64_t)i * batch : nullptr;
                component[i] = mixture.component(u ? gather(u, first, batch, 1) : V{});
                for (int j = 0; j < Z; j++)
                    e[j] = gather(from.prior + (int64_t)i * batch * Z + j, first, batch, Z);
                mixture.place(component[i], e, z);
            }
            if (i > 0) {
                int64_t before = (int64_t)(i - 1) * batch;
                if (share > 0) {
                    V u = gather(from.share + before, first, batch, 1);
                    from_prior[i] = u < share ? all(1.0f) : V{};
                }
                for (int j = 0; j < Z; j++) {
                    V own = gather(from.posterior + before * Z + j, first, batch, Z);
                    V there = inference[encoder.y() + j] + q_sigma[j] * own;
                    z[j] = from_prior[i] > 0.0f ? z[j] : there;
                    e[j] = from_prior[i] > 0.0f ? e[j] : own;
                }
            }
            decoder.forward(path);
            for (int j = 0; j < X; j++) {
                V log_sigma = action_range(path[decoder.y() + X + j], slope[i * X + j]);
                sigma[i * X + j] = exponential(log_sigma);
                precision[i * X + j] = 1.0f / sigma[i * X + j];
                if (i == 0) {
                    action_noise[j] = gather(from.action + j, first, batch, X);
                    x[j] = path[decoder.y() + j] + sigma[j] * action_noise[j];
                    inference[encoder.x() + j] = x[j];
                }
                V r = (x[j] - path[decoder.y() + j]) * precision[i * X + j];
                log_w[i] = (j ? log_w[i] : all(-X * HALF_LOG_TWO_PI)) - 0.5f * r * r - log_sigma;
            }
            if (i == 0) infer();
            V log_p = mixture.log_prob(z, shares + i * M);
            log_w[i] += log_p - log_proposal(log_p, z, prior_part[i]);
        }
        V highest = log_w[0], total{};
        for (int i = 1; i < paths; i++) highest = larger(log_w[i], highest);
        for (int i = 0; i < paths; i++) total += log_w[i] = exponential(log_w[i] - highest);
        for (int i = 0; i < paths; i++) log_w[i] /= total;  // from here on the weights' shares
        return highest + logarithm(total) - std::log((float)paths);
    }

    void infer() {
        encoder.forward(inference);
        for (int j = 0; j < latent_dim; j++) {
            V log_sigma = latent_range(inference[encoder.y() + latent_dim + j], q_slope[j]);
            q_sigma[j] = exponential(log_sigma);
            q_precision[j] = 1.0f / q_sigma[j];
            dq[j] = -log_sigma;  // until the way back
        }
    }

    // log (λ p(z) + (1 − λ) q(z)), and the share of p in it.
    V log_proposal(V log_p, const V* z, V& part) const {
        V log_q = all(-latent_dim * HALF_LOG_TWO_PI);
        for (int j = 0; j < latent_dim; j++) {
            V r = (z[j] - inference[encoder.y() + j]) * q_precision[j];
            log_q += dq[j] - 0.5f * r * r;
        }
        part = V{};
        if (share == 0) return log_q;
        V a = log_p + std::log(share), b = log_q + std::log1p(-share), high = larger(a, b);
        V total = exponential(a - high) + exponential(b - high);
        part = exponential(a - high) / total;
        return high + logarithm(total);
    }

    void back_latent(V d) {
        const int Z = latent_dim, X = actions, M = mixture.count;
        V* mean_q = inference + encoder.y();
        for (int j = 0; j < 2 * Z; j++) dq[j] = V{};
        for (int i = paths - 1; i >= 0; i--) {
            V *path = route + i * decoder.step(), *z = path + decoder.x();
            V *d_mean = path + decoder.d_y(), *d_raw = d_mean + X, *e = noise + i * Z;
            V weight = d * log_w[i], d_ratio = weight * (1.0f - prior_part[i]);
            for (int j = 0; j < X; j++) {  // log p(x | z)
                V r = (x[j] - path[decoder.y() + j]) * precision[i * X + j];
                d_mean[j] = weight * r * precision[i * X + j];
                d_raw[j] = weight * (r * r - 1.0f);
                dx[j] -= d_mean[j];
            }
            for (int j = 0; j < Z; j++) {  // log q(z)
                V r = (z[j] - mean_q[j]) * q_precision[j];
                dz[j] = d_ratio * r * q_precision[j];
                dq[j] -= d_ratio * r * q_precision[j];
                dq[Z + j] -= d_ratio * (r * r - 1.0f);
            }
            mixture.log_prob_back(d_ratio, z, shares + i * M, dz);
            if (i == 0) {  // x itself comes from this path, and q from x
                for (int j = 0; j < Z; j++) {
                    inference[encoder.d_y() + j] = dq[j];
                    inference[encoder.d_y() + Z + j] = dq[Z + j] * q_slope[j];
                }
                encoder.backward(inference, d_in);
                for (int j = 0; j < X; j++) {
                    dx[j] += d_in[j];
                    d_mean[j] += dx[j];
                    d_raw[j] += dx[j] * sigma[j] * action_noise[j];
                }
            }
            for (int j = 0; j < X; j++) d_raw[j] *= slope[i * X + j];
            decoder.backward(path, d_in);
            for (int j = 0; j < Z; j++) dz[j] += d_in[j];
            mixture.place_back(from_prior[i] > 0.0f ? component[i] : all(-1.0f), e, dz);
            for (int j = 0; j < Z; j++) {
                V own = from_prior[i] > 0.0f ? V{} : dz[j];
                dq[j] += own;
                dq[Z + j] += own * q_sigma[j] * e[j];
            }
        }
        decoder.add(route, paths);
        encoder.add(inference, 1);
    }
};
