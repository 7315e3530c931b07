// Proximal policy optimisation with a latent density over fixed codes: a step of the rollout, and
// the update on a minibatch. Stable-Baselines3's PPO.train is the definition of the latter.
#include <algorithm>

#include "generative.h"

namespace {

// Laid out as `Spec` in vaerl/native/ppo.py.
struct Spec {
    int32_t states, actions, batch, codes, tanh;
    int32_t trunk_depth, trunk[MAX_DEPTH], value_depth, value[MAX_DEPTH];
    int32_t components, learned, latent_dim, hidden, blocks;
    float action_range[4], prior_range[4];
};

// What one call reads and writes; laid out as `Call` there. An action is middle + half · x.
struct Call {
    const float *obs, *actions, *advantages, *log_prob, *values, *returns;  // of the rollout
    const int64_t* rows;  // that make up the minibatch
    const float *codes, *edges, *code_edges, *middle, *half, *uniform, *normal;
    Flat flat;
    float clip, clip_value, value_coef, largest_norm, other_squares, largest_kl;
    int32_t normalize;
    float *work, *info, *out_actions, *out_values, *out_log_prob;
};

enum { POLICY_LOSS, VALUE_LOSS, MEAN_LOG_PROB, LOSS, CLIP_FRACTION, KL, SHRINKAGE };
enum Done { NOT_FINITE, STOPPED, STEPPED };

struct Minibatch {
    const Spec& spec;
    const Call& call;
    const int batch, columns, ld;
    Arena arena;
    Generative p;
    Network trunk, value;
    V *x, *decoded, *noise;
    float* spread;           // rows of one state, in all lanes
    float log_scale = 0;     // Σ log half

    Minibatch(const Spec& spec, const Call& call)
        : spec(spec), call(call), batch(spec.batch), columns((batch + LANES - 1) / LANES * LANES),
          ld(columns + 16), arena{call.work} {
        Mixture prior(arena, spec.components, spec.latent_dim, spec.learned,
                      range_of(spec.prior_range), call.edges);
        p = Generative(arena, spec.codes, spec.latent_dim, spec.hidden, spec.actions, spec.blocks,
                       prior, range_of(spec.action_range));
        float* states = arena.take((int64_t)spec.states * ld);
        trunk = network(spec.trunk_depth, spec.trunk, states, p.decoder.rows() + prior.rows());
        value = network(spec.value_depth, spec.value, states, 1);
        x = arena.vectors(spec.actions), noise = arena.vectors(spec.latent_dim);
        decoded = arena.vectors((spec.codes + LANES - 1) / LANES * 2 * spec.actions);
        spread = arena.take(trunk.widths[trunk.depth] * LANES);
        for (int j = 0; call.half && j < spec.actions; j++) log_scale += std::log(call.half[j]);
    }

    Network network(int depth, const int32_t* hidden, float* states, int out) {
        Network made = Network::of(depth, hidden, spec.states, out, ld);
        made.activation = spec.tanh ? TANH : RELU, made.h[0] = states;
        for (int l = 1; l <= made.depth; l++)
            for (float** rows : {made.h, made.d}) rows[l] = arena.take((int64_t)made.widths[l] * ld);
        return made;
    }

    int64_t rest() const { return trunk.size(); }  // where the head's network begins
    int64_t head_size() {
        int64_t total = 0;
        p.decoder.each(nullptr, [&](Linear& layer, float*) { total += layer.size(); });
        return Network::padded(total);
    }
    float* values_at(float* flat) { return flat + rest() + head_size(); }

    int64_t row(int c) const { return call.rows ? call.rows[c] : c; }

    // The networks at the states of the minibatch.
    void forward() {
        p.decoder.each(call.flat.value + rest(), [](Linear& layer, float* at) { layer.read(at); });
        for (int c = 0; c < columns; c++)
            for (int j = 0; j < spec.states; j++)
                trunk.h[0][(int64_t)j * ld + c] = c < batch ? call.obs[row(c) * spec.states + j] : 0;
        trunk.forward(call.flat.value, {0, columns});
        value.forward(values_at(call.flat.value), {0, columns});
    }

    void load_head(const float* head, int step) {
        p.decoder.load_tile(head, step);
        p.prior.load_tile(head + (int64_t)p.decoder.rows() * step, step);
    }

    // Draws an action at each state. Here a lane is a code.
    bool act() {
        forward();
        const int X = spec.actions, Z = spec.latent_dim, rows = trunk.widths[trunk.depth];
        bool finite = true;
        for (int c = 0; c < batch; c++) {
            for (int r = 0; r < rows; r++)
                store(spread + r * LANES, all(trunk.h[trunk.depth][(int64_t)r * ld + c]));
            load_head(spread, LANES);
            for (int first = 0; first < spec.codes; first += LANES) {
                V component = p.prior.component(gather(call.codes, first, spec.codes, Z + 1));
                for (int j = 0; j < Z; j++)
                    noise[j] = gather(call.codes + 1 + j, first, spec.codes, Z + 1);
                p.prior.place(component, noise, p.z(0));
                p.decode(0);
                V* to = decoded + first / LANES * 2 * X;
                for (int j = 0; j < X; j++) {
                    to[j] = p.event.mean[j];
                    to[X + j] = p.event.log_sigma[j];
                }
            }
            int code = 0;
            while (code + 1 < spec.codes && call.uniform[c] >= call.code_edges[code]) code++;
            const V* from = decoded + code / LANES * 2 * X;
            for (int j = 0; j < X; j++) {
                float mean = from[j][code % LANES];
                V sigma = exponential(all(from[X + j][code % LANES]));
                float drawn = mean + sigma[0] * call.normal[c * X + j];
                float action = call.middle[j] + call.half[j] * drawn;
                call.out_actions[c * X + j] = action;
                x[j] = all((action - call.middle[j]) / call.half[j]);
            }
            call.out_log_prob[c] = log_prob_of_decoded() - log_scale;
            call.out_values[c] = value.h[value.depth][c];
            finite = finite && std::isfinite(call.out_log_prob[c]);
        }
        return finite;
    }

    // log (1/K) Σ p(x | z_k), the codes in lanes.
    float log_prob_of_decoded() const {
        const int X = spec.actions;
        float highest = -INFINITY, total = 0;
        for (int pass = 0; pass < 2; pass++)
            for (int first = 0; first < spec.codes; first += LANES) {
                const V *mean = decoded + first / LANES * 2 * X, *log_sigma = mean + X;
                V log_p = all(-X * HALF_LOG_TWO_PI);
                for (int j = 0; j < X; j++) {
                    V r = (x[j] - mean[j]) * exponential(-log_sigma[j]);
                    log_p -= 0.5f * r * r + log_sigma[j];
                }
                V weight = exponential(log_p - highest);
                for (int lane = 0; lane < LANES && first + lane < spec.codes; lane++)
                    if (pass) total += weight[lane];
                    else highest = std::max(highest, (float)log_p[lane]);
            }
        return highest + std::log(total) - std::log((float)spec.codes);
    }

    Done update() {
        forward();
        double mean = 0, spread = 0, info[KL + 1] = {};
        for (int c = 0; c < batch; c++) mean += call.advantages[row(c)] / batch;
        for (int c = 0; c < batch; c++) spread += std::pow(call.advantages[row(c)] - mean, 2);
        const bool scaled = call.normalize && batch > 1;
        if (!scaled) mean = 0;
        const double size = scaled ? std::sqrt(spread / (batch - 1)) + 1e-8 : 1;

        for (int first = 0; first < columns; first += LANES) {
            load_head(trunk.h[trunk.depth] + first, ld);
            for (int j = 0; j < spec.actions; j++)
                for (int lane = 0; lane < LANES; lane++) {
                    const int c = first + lane;
                    x[j][lane] = c < batch ? (call.actions[row(c) * spec.actions + j] - call.middle[j])
                                                 / call.half[j] : 0;
                }
            V log_prob = p.log_prob(x, call.codes) - log_scale, d{};
            for (int lane = 0; lane < LANES && first + lane < batch; lane++) {
                const int64_t at = row(first + lane);
                const double advantage = (call.advantages[at] - mean) / size;
                d[lane] = surrogate(advantage, log_prob[lane], call.log_prob[at], info);
            }
            p.log_prob_back(d, x);
            p.decoder.store_tile(trunk.d[trunk.depth] + first, ld);
            p.prior.store_tile(trunk.d[trunk.depth] + (int64_t)p.decoder.rows() * ld + first, ld);
        }
        regress(info);
        info[LOSS] = info[POLICY_LOSS] + call.value_coef * info[VALUE_LOSS];
        for (int i = 0; i <= KL; i++) call.info[i] = info[i];
        if (info[KL] > call.largest_kl) return STOPPED;
        gradient();
        return step();
    }

    // Adds a state's terms; returns the derivative of the loss in its log π.
    double surrogate(double advantage, float log_prob, float old, double* info) const {
        const double gap = log_prob - old, ratio = std::exp(gap);
        const double held = std::clamp(ratio, 1.0 - call.clip, 1.0 + call.clip);
        info[POLICY_LOSS] -= std::min(advantage * ratio, advantage * held) / batch;
        info[MEAN_LOG_PROB] += log_prob / (double)batch;
        info[CLIP_FRACTION] += std::fabs(ratio - 1) > call.clip ? 1.0 / batch : 0;
        info[KL] += (ratio - 1 - gap) / batch;
        const bool moves = ratio == held || advantage * ratio < advantage * held;
        return moves ? -advantage * ratio / batch : 0;
    }

    void regress(double* info) const {
        for (int c = 0; c < columns; c++) {
            float& d = value.d[value.depth][c] = 0;
            if (c >= batch) continue;
            const float found = value.h[value.depth][c], old = call.values[row(c)];
            float change = found - old;
            bool moves = true;
            if (call.clip_value >= 0) {
                moves = std::fabs(change) <= call.clip_value;
                change = std::clamp(change, -call.clip_value, call.clip_value);
            }
            const double gap = (moves ? found : old + change) - call.returns[row(c)];
            info[VALUE_LOSS] += gap * gap / batch;
            if (moves) d = 2 * call.value_coef * gap / batch;
        }
    }

    void gradient() {
        float* to = call.flat.gradient;
        trunk.back(call.flat.value, {0, columns});
        trunk.parameters(to, columns, 0, 1);
        memset(to + rest(), 0, sizeof(float) * head_size());
        p.decoder.each(to + rest(), [](Linear& layer, float* at) { layer.write(at); });
        value.back(values_at(call.flat.value), {0, columns});
        value.parameters(values_at(to), columns, 0, 1);
    }

    // Clips the norm of all gradients together, with that of parameters that it does not know.
    Done step() const {
        const Flat& flat = call.flat;
        double squares = call.other_squares;
        for (int64_t i = 0; i < flat.size; i++) squares += (double)flat.gradient[i] * flat.gradient[i];
        const float shrinkage = std::min(1.0, call.largest_norm / (std::sqrt(squares) + 1e-6));
        for (int64_t i = 0; i < flat.size; i++) flat.gradient[i] *= shrinkage;
        call.info[SHRINKAGE] = shrinkage;
        if (!flat.finite_gradient()) return NOT_FINITE;
        flat.adam(0, flat.size);
        return STEPPED;
    }
};

}  // namespace

extern "C" {

// Sizes of both structures, to notice a library of another version.
int64_t vaerl_ppo_layout() { return sizeof(Spec) * 65536 + sizeof(Call); }

// Floats in the workspace and in the flat memory.
void vaerl_ppo_sizes(const Spec* spec, int64_t* sizes) {
    Call call{};
    Minibatch all_of_it(*spec, call);
    sizes[0] = all_of_it.arena.used;
    sizes[1] = all_of_it.rest() + all_of_it.head_size() + all_of_it.value.size();
}

// Draws actions at the observations, a row each, with values and log π; whether all are finite.
int vaerl_ppo_act(const Spec* spec, const Call* call) { return Minibatch(*spec, *call).act(); }

int vaerl_ppo_update(const Spec* spec, const Call* call) { return Minibatch(*spec, *call).update(); }
}
