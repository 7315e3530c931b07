// Bounds on the log-density of data under a latent density with one layer, and their gradient;
// vaerl/densities/cvae.py is the definition. With fixed codes the same of the exact log-density.
#include <algorithm>

#include "generative.h"
#include "pair.h"

namespace {

enum Gradient { TOTAL, STL, DREG, WAKE };  // of the encoder, see vaerl/bounds.py

const int COLUMNS = 64;  // states that go through all layers at once

// Laid out as `Spec` in vaerl/native/latent.py.
struct LatentSpec {
    int32_t members, batch, events, latent_dim, hidden, blocks, components, learned, weighted;
    int32_t paths, threads, frozen, average, gradient;
    int32_t context[2], depth, embedding[MAX_DEPTH];
    float action_range[4], latent_range[4], prior_range[4];
};

// What one call reads and writes: members outermost, then a row a state. `noise` and the log-weights
// have the paths before both; with fixed codes, `noise` is a row a code. Of contexts and their
// networks that of p comes first; with fixed codes there is no q.
struct LatentCall {
    const float *x, *context[2], *noise, *edges, *network;
    const float* upstream;  // derivatives of the loss in the bounds; null: all 1
    float kl_weight;
    float *bound, *log_w, *log_p, *log_q;
    float *d_context[2], *d_network;  // null: not wanted
    float* work;
};

// The share of one thread: some of the states of every member.
struct Worker {
    const LatentSpec& s;
    const LatentCall& call;
    const int ld = COLUMNS + 16, nets;
    Generative p;
    Film encoder;
    Normal posterior;
    Network net[2];  // from contexts to what decoder and prior, and the encoder, take of them
    float* d_inputs;
    V *inference, *x, *shares, *dq;

    Worker(Arena& arena, const LatentSpec& s, const LatentCall& call)
        : s(s), call(call), nets(s.frozen ? 1 : 2) {
        const int Z = s.latent_dim;
        Mixture prior(arena, s.components, Z, s.learned, range_of(s.prior_range), call.edges,
                      s.weighted);
        p = Generative(arena, s.paths, Z, s.hidden, s.events, s.blocks, prior,
                       range_of(s.action_range));
        encoder = Film(arena, s.events, s.hidden, 2 * Z, s.blocks);
        posterior = Normal(arena, Z, range_of(s.latent_range));
        inference = arena.vectors(encoder.step());
        x = arena.vectors(s.events), dq = arena.vectors(2 * Z);
        shares = arena.vectors(s.paths * s.components);
        const int rows[2] = {p.decoder.rows() + prior.rows(), encoder.rows()};
        for (int i = 0; i < nets; i++) {
            net[i] = Network::of(s.depth, s.embedding, s.context[i], rows[i], ld);
            net[i].activation = SILU;
            for (int l = 0; l <= net[i].depth; l++)
                for (float** part : {net[i].h, net[i].d, net[i].slope})
                    part[l] = arena.take((int64_t)net[i].widths[l] * ld);
        }
        d_inputs = arena.take((int64_t)std::max(s.context[0], s.context[1]) * ld);
    }

    // Calls visit(layer, its parameters) for the layers of decoder and encoder, which follow those
    // of the contexts.
    template <class Visit>
    float* each(float* flat, Visit visit) {
        flat = p.decoder.each(flat, visit);
        return s.frozen ? flat : encoder.each(flat, visit);
    }

    int64_t before(int i) const { return i ? net[0].size() : 0; }
    int64_t embedding() const { return before(1) + (nets > 1 ? net[1].size() : 0); }
    int64_t size() {
        int64_t total = embedding();
        each(nullptr, [&](Linear& layer, float*) { total += layer.size(); });
        return total;
    }

    void run(int w) {
        const int64_t numbers = size();
        int block = 0;
        for (int m = 0; m < s.members; m++) {
            const float* flat = call.network + m * numbers;
            float* gradient = call.d_network ? call.d_network + (w * s.members + m) * numbers : nullptr;
            each((float*)flat + embedding(), [](Linear& layer, float* at) { layer.read(at); });
            for (int first = 0; first < s.batch; first += COLUMNS)
                if (block++ % s.threads == w) states(flat, gradient, m, first);
            if (gradient)
                each(gradient + embedding(), [](Linear& layer, float* at) { layer.write(at); });
        }
    }

    // Up to COLUMNS states of member m from `first` on.
    void states(const float* flat, float* gradient, int m, int first) {
        const int count = std::min(COLUMNS, s.batch - first);
        const int columns = (count + LANES - 1) / LANES * LANES;
        for (int i = 0; i < nets; i++) {
            const float* from = call.context[i] + ((int64_t)m * s.batch + first) * s.context[i];
            for (int j = 0; j < s.context[i]; j++)
                for (int c = 0; c < columns; c++)
                    net[i].h[0][(int64_t)j * ld + c] = c < count ? from[c * s.context[i] + j] : 0;
            net[i].forward(flat + before(i), {0, columns});
        }
        for (int c = 0; c < columns; c += LANES) tile(m, first, c, gradient);
        for (int i = 0; gradient && i < nets; i++) {
            net[i].back(flat + before(i), {0, columns});
            net[i].parameters(gradient + before(i), columns, 0, 1, true);
            if (!call.d_context[i]) continue;
            net[i].inputs(flat + before(i), columns, d_inputs);
            float* to = call.d_context[i] + ((int64_t)m * s.batch + first) * s.context[i];
            for (int c = 0; c < count; c++)
                for (int j = 0; j < s.context[i]; j++)
                    to[c * s.context[i] + j] = d_inputs[(int64_t)j * ld + c];
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

    // The states of a tile, which begins at column c of its block.
    void tile(int m, int block, int c, bool wanted) {
        const int first = block + c;
        const float *head = net[0].h[net[0].depth] + c, *prior = head + (int64_t)p.decoder.rows() * ld;
        take(call.x, s.events, m, first, x);
        p.decoder.load_tile(head, ld);
        p.prior.load_tile(prior, ld);
        if (!s.frozen) encoder.load_tile(net[1].h[net[1].depth] + c, ld);
        V bound = s.frozen ? p.log_prob(x, call.noise) : weigh(m, first);
        give(&bound, 1, m, first, call.bound);
        if (!wanted) return;

        V upstream = all(1.0f);
        if (call.upstream) take(call.upstream, 1, m, first, &upstream);
        for (int lane = s.batch - first; lane < LANES; lane++) upstream[lane] = 0;
        s.frozen ? p.log_prob_back(upstream, x) : back(upstream);
        float* d_head = net[0].d[net[0].depth] + c;
        p.decoder.store_tile(d_head, ld);
        p.prior.store_tile(d_head + (int64_t)p.decoder.rows() * ld, ld);
        if (!s.frozen) encoder.store_tile(net[1].d[net[1].depth] + c, ld);
    }

    // The bound; p.weight then holds each path's share in its derivative.
    V weigh(int m, int first) {
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

    void back(V upstream) {
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
    }
};

}  // namespace

extern "C" {

// Sizes of both structures, to notice a library of another version.
int64_t vaerl_latent_layout() { return sizeof(LatentSpec) * 65536 + sizeof(LatentCall); }

// Floats in the workspace, and in the parameters of one member.
void vaerl_latent_sizes(const LatentSpec* spec, int64_t* sizes) {
    LatentCall call{};
    Arena arena{nullptr};
    for (int w = 0; w < spec->threads; w++) sizes[1] = Worker(arena, *spec, call).size();
    sizes[0] = arena.used;
}

void vaerl_latent(const LatentSpec* spec, const LatentCall* call) {
    Arena arena{call->work};
    Worker own(arena, *spec, *call);
    if (spec->threads == 1) return own.run(0);
    Worker others(arena, *spec, *call);
    pair().run([&](int w) { (w ? others : own).run(w); });
}
}
