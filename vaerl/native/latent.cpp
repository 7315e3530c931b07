// Bounds on the log-density of data under a latent density with one layer, and their gradient;
// vaerl/densities/cvae.py is the definition. With fixed codes the same of the exact log-density.
#include <algorithm>

#include "film.h"
#include "mixture.h"
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
    Film decoder, encoder;
    Mixture prior;
    Normal event, posterior;
    V *route, *inference, *x, *rows, *noise, *component, *log_w, *shares, *dz, *dq;

    Worker(Arena& arena, const LatentSpec& s, const LatentCall& call) : s(s), call(call) {
        const int Z = s.latent_dim;
        decoder = Film(arena, Z, s.hidden, 2 * s.events, s.blocks);
        encoder = Film(arena, s.events, s.hidden, 2 * Z, s.blocks);
        prior = Mixture(arena, s.components, Z, s.learned, range_of(s.prior_range), call.edges,
                        s.weighted);
        event = Normal(arena, s.events, range_of(s.action_range));
        posterior = Normal(arena, Z, range_of(s.latent_range));
        route = arena.vectors(s.paths * decoder.step());
        inference = arena.vectors(encoder.step());
        x = arena.vectors(s.events), dq = arena.vectors(2 * Z);
        rows = arena.vectors(std::max({decoder.rows(), encoder.rows(), prior.rows()}));
        noise = arena.vectors(s.paths * Z), shares = arena.vectors(s.paths * s.components);
        component = arena.vectors(s.paths), log_w = arena.vectors(s.paths);
        dz = arena.vectors(rows_of(std::max(Z, s.events)));
    }

    // Calls visit(layer, its parameters) for all layers of both networks.
    template <class Visit>
    float* each(float* flat, Visit visit) {
        return encoder.each(decoder.each(flat, visit), visit);
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
        const int k = s.paths;
        take(call.x, s.events, m, first, x);
        decoder.load_tile(take(call.decoder, decoder.rows(), m, first, rows), LANES);
        prior.load_tile(take(call.prior, prior.rows(), m, first, rows), LANES);
        if (!s.frozen) {
            encoder.load_tile(take(call.encoder, encoder.rows(), m, first, rows), LANES);
            for (int j = 0; j < s.events; j++) inference[encoder.x() + j] = x[j];
            encoder.forward(inference);
            posterior.read(inference + encoder.y());
        }
        V highest = all(-INFINITY), total{}, mean{};
        for (int i = 0; i < k; i++) {
            log_w[i] = weigh(i, m, first);
            highest = larger(log_w[i], highest);
            mean += log_w[i] / (float)k;
        }
        for (int i = 0; i < k; i++) total += log_w[i] = exponential(log_w[i] - highest);
        for (int i = 0; i < k; i++) log_w[i] = s.average ? all(1.0f / k) : log_w[i] / total;
        V bound = s.average ? mean : highest + logarithm(total) - std::log((float)k);
        give(&bound, 1, m, first, call.bound);
        if (!call.d_decoder) return;

        V upstream = all(1.0f);
        if (call.upstream) take(call.upstream, 1, m, first, &upstream);
        for (int lane = s.batch - first; lane < LANES; lane++) upstream[lane] = 0;
        back(upstream, m, first);
    }

    // log w of path i.
    V weigh(int i, int m, int first) {
        const int Z = s.latent_dim;
        V *path = route + i * decoder.step(), *z = path + decoder.x(), *e = noise + i * Z;
        if (s.frozen) {
            const float* code = call.noise + (int64_t)i * (Z + 1);
            component[i] = prior.component(all(code[0]));
            for (int j = 0; j < Z; j++) e[j] = all(code[1 + j]);
            prior.place(component[i], e, z);
        } else {
            take(call.noise, Z, i * s.members + m, first, e);
            for (int j = 0; j < Z; j++) z[j] = posterior.mean[j] + posterior.sigma[j] * e[j];
        }
        decoder.forward(path);
        event.read(path + decoder.y());
        V log_x = event.log_prob(x);
        if (s.frozen) return log_x;
        V log_p = prior.log_prob(z, shares + i * s.components), log_q = posterior.log_prob(z);
        V log_w = log_x + call.kl_weight * (log_p - log_q);
        give(&log_p, 1, i * s.members + m, first, call.log_p);
        give(&log_q, 1, i * s.members + m, first, call.log_q);
        give(&log_w, 1, i * s.members + m, first, call.log_w);
        return log_w;
    }

    void back(V upstream, int m, int first) {
        const int Z = s.latent_dim;
        for (int j = 0; j < 2 * Z; j++) dq[j] = V{};
        for (int i = 0; i < s.paths; i++) {
            V *path = route + i * decoder.step(), *e = noise + i * Z;
            V d = upstream * log_w[i], weight = log_w[i];
            event.read(path + decoder.y());
            event.log_prob_back(d, x, path + decoder.d_y());
            decoder.backward(path, dz);
            if (s.frozen) {
                prior.place_back(component[i], e, dz);
                continue;
            }
            d *= call.kl_weight;
            prior.log_prob_back(d, path + decoder.x(), shares + i * s.components, dz);
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
        decoder.add(route, s.paths);
        decoder.store_tile((float*)rows, LANES);
        give(rows, decoder.rows(), m, first, call.d_decoder);
        prior.store_tile((float*)rows, LANES);
        give(rows, prior.rows(), m, first, call.d_prior);
        if (s.frozen) return;
        for (int j = 0; j < Z; j++) {
            inference[encoder.d_y() + j] = dq[j];
            inference[encoder.d_y() + Z + j] = dq[Z + j] * posterior.slope[j];
        }
        encoder.backward(inference, dz);
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
