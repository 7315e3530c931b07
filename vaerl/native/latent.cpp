// Bounds on the log-density of data under a latent density with one layer, and their gradient;
// vaerl/densities/cvae.py is the definition. With fixed codes the same of the exact log-density.
#include <algorithm>

#include "generative.h"
#include "pair.h"

namespace {

enum Gradient { TOTAL, STL, DREG, WAKE };  // of the encoder, see vaerl/bounds.py

// Laid out as `Spec` in vaerl/native/latent.py.
struct LatentSpec {
    int32_t members, batch, events, latent_dim, hidden, blocks, components, learned, weighted;
    int32_t paths, threads, frozen, average, gradient;
    float action_range[4], latent_range[4], prior_range[4];
};

// What one call reads and writes: members outermost, then a row a state. `noise` and the log-weights
// have the paths before both; with fixed codes, `noise` is a row a code.
struct LatentCall {
    const float *x, *decoder, *encoder, *prior, *noise, *edges, *network;
    const float* upstream;  // derivatives of the loss in the bounds; null: all 1
    float kl_weight;
    float *bound, *log_w, *log_p, *log_q;
    float *d_decoder, *d_encoder, *d_prior, *d_network;  // null: only bounds are wanted
    float* work;
};

// The share of one thread: some of the tiles of every member.
struct Worker {
    const LatentSpec& s;
    const LatentCall& call;
    Generative p;
    Film encoder;
    Normal posterior;
    V *inference, *x, *rows, *shares, *dq;

    Worker(Arena& arena, const LatentSpec& s, const LatentCall& call) : s(s), call(call) {
        const int Z = s.latent_dim;
        Mixture prior(arena, s.components, Z, s.learned, range_of(s.prior_range), call.edges,
                      s.weighted);
        p = Generative(arena, s.paths, Z, s.hidden, s.events, s.blocks, prior,
                       range_of(s.action_range));
        encoder = Film(arena, s.events, s.hidden, 2 * Z, s.blocks);
        posterior = Normal(arena, Z, range_of(s.latent_range));
        inference = arena.vectors(encoder.step());
        x = arena.vectors(s.events), dq = arena.vectors(2 * Z);
        rows = arena.vectors(std::max({p.decoder.rows(), encoder.rows(), prior.rows()}));
        shares = arena.vectors(s.paths * s.components);
    }

    // Calls visit(layer, its parameters) for all layers of both networks.
    template <class Visit>
    float* each(float* flat, Visit visit) {
        return encoder.each(p.decoder.each(flat, visit), visit);
    }

    int64_t size() {
        int64_t total = 0;
        each(nullptr, [&](Linear& layer, float*) { total += layer.size(); });
        return total;
    }

    void run(int w) {
        const int64_t numbers = size();
        const int tiles = (s.batch + LANES - 1) / LANES;
        const Span mine = share(tiles, w, s.threads, 1);
        for (int m = 0; m < s.members; m++) {
            each((float*)call.network + m * numbers, [](Linear& layer, float* at) { layer.read(at); });
            for (int t = mine.begin; t < mine.end; t++) tile(m, t * LANES);
            if (!call.d_network) continue;
            each(call.d_network + (w * s.members + m) * numbers,
                 [](Linear& layer, float* at) { layer.write(at); });
        }
    }

    // Numbers of this tile's rows of `from`, which has `size` numbers a row; and back.
    const float* take(const float* from, int size, int m, int first, V* to) const {
        from += (int64_t)m * s.batch * size;
        for (int j = 0; j < size; j++) to[j] = gather(from + j, first, s.batch, size);
        return (const float*)to;
    }
    void give(const V* from, int size, int m, int first, float* to) const {
        to += ((int64_t)m * s.batch + first) * size;
        for (int lane = 0; lane < LANES && first + lane < s.batch; lane++)
            for (int j = 0; j < size; j++) *to++ = from[j][lane];
    }

    void tile(int m, int first) {
        take(call.x, s.events, m, first, x);
        p.decoder.load_tile(take(call.decoder, p.decoder.rows(), m, first, rows), LANES);
        p.prior.load_tile(take(call.prior, p.prior.rows(), m, first, rows), LANES);
        V bound = s.frozen ? p.log_prob(x, call.noise) : weigh(m, first);
        give(&bound, 1, m, first, call.bound);
        if (!call.d_decoder) return;

        V upstream = all(1.0f);
        if (call.upstream) take(call.upstream, 1, m, first, &upstream);
        for (int lane = s.batch - first; lane < LANES; lane++) upstream[lane] = 0;
        s.frozen ? p.log_prob_back(upstream, x) : back(upstream, m, first);
        p.decoder.store_tile((float*)rows, LANES);
        give(rows, p.decoder.rows(), m, first, call.d_decoder);
        p.prior.store_tile((float*)rows, LANES);
        give(rows, p.prior.rows(), m, first, call.d_prior);
    }

    // The bound; p.weight then holds each path's share in its derivative.
    V weigh(int m, int first) {
        encoder.load_tile(take(call.encoder, encoder.rows(), m, first, rows), LANES);
        for (int j = 0; j < s.events; j++) inference[encoder.x() + j] = x[j];
        encoder.forward(inference);
        posterior.read(inference + encoder.y());
        V highest = all(-INFINITY), total{}, mean{};
        for (int i = 0; i < s.paths; i++) {
            p.weight[i] = log_weight(i, m, first);
            highest = larger(p.weight[i], highest);
            mean += p.weight[i] / (float)s.paths;
        }
        for (int i = 0; i < s.paths; i++) total += p.weight[i] = exponential(p.weight[i] - highest);
        for (int i = 0; i < s.paths; i++)
            p.weight[i] = s.average ? all(1.0f / s.paths) : p.weight[i] / total;
        return s.average ? mean : highest + logarithm(total) - std::log((float)s.paths);
    }

    // log w of path i.
    V log_weight(int i, int m, int first) {
        const int Z = s.latent_dim, at = i * s.members + m;
        V *z = p.z(i), *e = p.noise + i * Z;
        take(call.noise, Z, at, first, e);
        for (int j = 0; j < Z; j++) z[j] = posterior.mean[j] + posterior.sigma[j] * e[j];
        p.decode(i);
        V log_p = p.prior.log_prob(z, shares + i * s.components), log_q = posterior.log_prob(z);
        V log_w = p.event.log_prob(x) + call.kl_weight * (log_p - log_q);
        give(&log_p, 1, at, first, call.log_p);
        give(&log_q, 1, at, first, call.log_q);
        give(&log_w, 1, at, first, call.log_w);
        return log_w;
    }

    void back(V upstream, int m, int first) {
        const int Z = s.latent_dim;
        for (int j = 0; j < 2 * Z; j++) dq[j] = V{};
        for (int i = 0; i < s.paths; i++) {
            V *path = p.path(i), *e = p.noise + i * Z, *dz = p.dz;
            V weight = p.weight[i], d = upstream * weight;
            p.event.read(path + p.decoder.y());
            p.event.log_prob_back(d, x, path + p.decoder.d_y());
            p.decoder.backward(path, dz);
            d *= call.kl_weight;
            p.prior.log_prob_back(d, p.z(i), shares + i * s.components, dz);
            V through = s.gradient == DREG ? weight : s.gradient == WAKE ? 1.0f - weight : all(1.0f);
            for (int j = 0; j < Z; j++) {
                V pull = d * e[j] * posterior.precision[j];  // of −log q(z), as a function of z
                V dz_j = through * (dz[j] + pull);
                dq[j] += dz_j;
                dq[Z + j] += dz_j * posterior.sigma[j] * e[j];
                if (s.gradient == TOTAL) {  // and of its parameters
                    dq[j] -= pull;
                    dq[Z + j] += d * (1.0f - e[j] * e[j]);
                }
            }
        }
        p.decoder.add(p.route, s.paths);
        for (int j = 0; j < Z; j++) {
            inference[encoder.d_y() + j] = dq[j];
            inference[encoder.d_y() + Z + j] = dq[Z + j] * posterior.slope[j];
        }
        encoder.backward(inference, p.dz);
        encoder.add(inference, 1);
        encoder.store_tile((float*)rows, LANES);
        give(rows, encoder.rows(), m, first, call.d_encoder);
    }
};

}  // namespace

extern "C" {

// Sizes of both structures, to notice a library of another version.
int64_t vaerl_latent_layout() { return sizeof(LatentSpec) * 65536 + sizeof(LatentCall); }

// Floats in the workspace.
int64_t vaerl_latent_work(const LatentSpec* spec) {
    LatentCall call{};
    Arena arena{nullptr};
    for (int w = 0; w < spec->threads; w++) Worker(arena, *spec, call);
    return arena.used;
}

void vaerl_latent(const LatentSpec* spec, const LatentCall* call) {
    Arena arena{call->work};
    Worker own(arena, *spec, *call);
    if (spec->threads == 1) return own.run(0);
    Worker others(arena, *spec, *call);
    pair().run([&](int w) { (w ? others : own).run(w); });
}
}
