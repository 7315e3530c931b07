// One update of soft actor-critic: agents/sac.py is the definition, this the same in one pass.
#include <algorithm>

#include "critic.h"
#include "pair.h"

namespace {

// What one call reads and writes; laid out as `Call` in vaerl/native/sac.py.
struct Call {
    const float *obs, *next_obs, *actions, *rewards, *dones, *discounts, *weights, *edges;
    Noise noise[2];
    Flat actor, critic, temperature;  // the last without values where α is given
    const float* target;
    float* statistics;  // running ones of critics that have any
    float gamma, target_entropy, uniform_entropy, alpha;
    int32_t follow;  // whether actor and temperature take a step
    int32_t renormalise;
    float *work, *info;
};

enum { CRITIC_LOSS, ACTOR_LOSS, ENTROPY, ALPHA, ALPHA_LOSS };
enum Done { NOTHING, CRITICS, ALL };
enum Kind { PLAIN, RESIDUAL, RENORM };  // of critics

template <class Critic>
struct Update {
    const Spec& spec;
    const Call& call;
    const int batch, threads;
    int columns;            // of one batch, padded to whole tiles
    int ld;                 // floats from one row to the next
    float alpha;            // before its own step
    Arena arena;
    Network actor;
    const Critic critic;  // the first, without memory
    Head head[MAX_THREADS];
    float *taken;           // (s, a) of the batch
    float *log_prob;        // at s, then at s'
    float *q, *next_q;      // a row a critic
    float *moved;           // statistics after the step
    float *slopes;          // −d min Q / d a over the batch size, a block of rows a critic
    float *layers;          // activations of each critic
    float *derivatives[MAX_THREADS], *y[MAX_THREADS];
    int* places[MAX_THREADS];
    bool finite[MAX_THREADS] = {true, true};
    double critic_loss[MAX_THREADS] = {0, 0};
    Pair* both = nullptr;   // where there are two threads

    Update(const Spec& spec, const Call& call)
        : spec(spec), call(call), batch(spec.batch), threads(spec.threads),
          columns((batch + LANES - 1) / LANES * LANES),
          ld(2 * columns + 16),  // not a power of two, whose rows would share cache lines
          alpha(0), arena{call.work}, critic(spec, 0, ld) {
        for (int w = 0; w < threads; w++) head[w] = Head(arena, spec, call.edges);
        const int inputs = spec.states + spec.actions;
        actor = Network::of(spec.trunk_depth, spec.trunk, spec.states, head[0].rows(), ld);
        actor.half = spec.half;
        actor.h[0] = rows(inputs);  // below the states lie own actions
        for (int l = 1; l <= actor.depth; l++) {
            actor.h[l] = rows(actor.widths[l]);
            actor.d[l] = rows(actor.widths[l]);
        }
        taken = rows(inputs), log_prob = rows(1);
        q = rows(spec.critics);
        next_q = Critic::SHARES_PASS ? q + columns : rows(spec.critics);
        if constexpr (Critic::SHARES_PASS) moved = arena.take(critic.statistics);
        slopes = rows(spec.critics * spec.actions);
        layers = rows(spec.critics * critic.kept());
        for (int w = 0; w < threads; w++) {
            derivatives[w] = rows(critic.derived()), y[w] = rows(1);
            places[w] = (int*)rows(1);
        }
    }

    float* rows(int64_t count) { return arena.take(count * ld); }

    // Critic i as thread w works on it, from inputs to a row of values, with the activations of
    // critic `at`: own ones only where they are needed later, since others are in the cache.
    Critic critic_of(int i, int w, int at, float* inputs, float* values) const {
        Critic made(spec, i, ld);
        made.lay(inputs, kept(at), derivatives[w], values + (int64_t)i * ld);
        if constexpr (Critic::SHARES_PASS) made.running = call.statistics, made.moved = moved;
        return made;
    }

    float* kept(int at) const { return layers + (int64_t)at * critic.kept() * ld; }

    // Transitions [begin, end) of a batch, a row each, as columns.
    void columns_of(const float* from, int size, float* to, Span part) const {
        for (int j = 0; j < size; j++)
            for (int c = part.begin; c < part.end; c++)
                to[(int64_t)j * ld + c] = c < batch ? from[(int64_t)c * size + j] : 0;
    }

    // Own actions and their log π in the columns of `mine`.
    void act(int w, Span mine) {
        head[w].read(call.actor.value + actor.size());
        const float* obs[2] = {call.obs, call.next_obs};
        for (int pass = 0; pass < 2; pass++) {
            int begin = std::max(mine.begin - pass * columns, 0);
            int end = std::min(mine.end - pass * columns, columns);
            columns_of(obs[pass], spec.states, actor.h[0] + pass * columns, {begin, end});
        }
        actor.forward(call.actor.value, mine);
        V check{};
        for (int c = mine.begin; c < mine.end; c += LANES) {
            V log_p = tile(w, c);
            store(log_prob + c, log_p);
            check += log_p * 0.0f;
            for (int j = 0; j < spec.actions; j++) {
                store(actor.h[0] + (int64_t)(spec.states + j) * ld + c,
                      hyperbolic_tangent(head[w].x[j]));
                check += head[w].x[j] * 0.0f;
            }
        }
        finite[w] = sum(check) == 0;
    }

    V tile(int w, int c) {
        int pass = c >= columns;
        return head[w].forward(actor.h[actor.depth] + c, ld, call.noise[pass], c - pass * columns);
    }

    // (s', a') beside (s, a), for critics that share a pass.
    void join(int w) {
        Span mine = share(spec.states + spec.actions, w, threads, 1);
        for (int64_t j = mine.begin; j < mine.end; j++)
            memcpy(taken + j * ld + columns, actor.h[0] + j * ld + columns, sizeof(float) * columns);
        meet();
    }

    // Values at s'; of critics that share a pass those at s too.
    void value_next(int i, int w) const {
        if constexpr (Critic::SHARES_PASS)
            critic_of(i, w, i, taken, q).forward_pair(call.critic.value, call.renormalise);
        else
            critic_of(i, w, w, actor.h[0] + columns, next_q).forward(call.target, {0, columns});
    }

    // y = r + γ (1 − d) (min Q̄ − α log π)
    void aim(int w) const {
        for (int c = 0; c < batch; c++) {
            float low = next_q[c], discount = call.discounts ? call.discounts[c] : call.gamma;
            for (int i = 1; i < spec.critics; i++)
                low = next_q[(int64_t)i * ld + c] < low ? next_q[(int64_t)i * ld + c] : low;
            low -= alpha * (log_prob[columns + c] + call.uniform_entropy);
            y[w][c] = call.rewards[c] + (1 - call.dones[c]) * discount * low;
        }
    }

    // Adds the loss of critic i, and finds its gradient.
    void regress(int i, int w) {
        Critic net = critic_of(i, w, Critic::SHARES_PASS ? i : w, taken, q);
        if constexpr (!Critic::SHARES_PASS) net.forward(call.critic.value, {0, columns});
        double squares = 0;
        for (int c = 0; c < columns; c++) {
            double gap = c < batch ? net.values()[c] - y[w][c] : 0;
            double counted = c < batch && call.weights ? gap * call.weights[c] : gap;
            net.slope()[c] = counted / batch;
            squares += counted * gap;
        }
        critic_loss[w] += 0.5 * squares / batch;
        if constexpr (Critic::SHARES_PASS) {
            memset(net.slope() + columns, 0, sizeof(float) * columns);
            net.back_pair(call.critic.value, call.critic.gradient);
        } else {
            net.back(call.critic.value, {0, columns}, call.critic.gradient);
        }
    }

    // A step of critic i, then its values at own actions if they are wanted.
    void step(int i, int w) const {
        Critic net = critic_of(i, w, i, actor.h[0], q);
        net.adam(call.critic);
        if constexpr (Critic::SHARES_PASS) net.settle(call.statistics);
        if (call.follow) net.forward(call.critic.value, {0, columns});
    }

    int lowest(int c) const {
        int at = 0;
        for (int i = 1; i < spec.critics; i++)
            if (q[(int64_t)i * ld + c] < q[(int64_t)at * ld + c]) at = i;
        return at;
    }

    void slope(int i, int w) const {
        Critic net = critic_of(i, w, i, actor.h[0], q);
        Span mine{0, 0};  // the columns where it is the lowest, side by side
        int* place = places[w];
        for (int c = 0; c < batch; c++)
            if (lowest(c) == i) place[mine.end++] = c;
        float* row = kept(i);
        for (int r = 0; r < net.reread(); r++, row += ld)
            for (int n = 0; n < mine.end; n++) row[n] = row[place[n]];  // place[n] >= n
        for (int n = 0; n < mine.end; n++) net.slope()[n] = -1.0f / batch;
        net.back(call.critic.value, mine);
        float* to = slopes + (int64_t)i * spec.actions * ld;
        net.inputs(call.critic.value, spec.states, spec.actions, mine.end, to);
        for (int j = 0; j < spec.actions; j++, to += ld)
            for (int c = columns - 1, n = mine.end - 1; c >= 0; c--)
                to[c] = n >= 0 && place[n] == c ? to[n--] : 0;
    }

    void improve(int w) {
        Span mine = share(columns, w, threads, LANES);
        for (int c = mine.begin; c < mine.end; c += LANES) {
            tile(w, c);
            V real{};
            for (int lane = 0; lane < LANES; lane++) real[lane] = c + lane < batch ? alpha / batch : 0;
            for (int j = 0; j < spec.actions; j++) {
                head[w].dx[j] = V{};
                for (int i = 0; i < spec.critics; i++)
                    head[w].dx[j] += load(slopes + (int64_t)(i * spec.actions + j) * ld + c);
            }
            head[w].backward(real, actor.d[actor.depth] + c, ld);
        }
        actor.back(call.actor.value, mine);
    }

    void gather_gradient(int w) {
        actor.parameters(call.actor.gradient, columns, w, threads);
        if (w) return;
        float* rest = call.actor.gradient + actor.size();
        memset(rest, 0, sizeof(float) * head[0].size());
        for (int each = 0; each < threads; each++) head[each].write(rest);
    }

    void report(Done done) const {
        double entropy = 0;
        call.info[CRITIC_LOSS] = critic_loss[0] + critic_loss[1];
        call.info[ALPHA] = alpha;
        if (!call.follow) return;
        for (int c = 0; c < batch; c++) entropy -= log_prob[c] / batch;
        call.info[ACTOR_LOSS] = actor_loss();
        call.info[ENTROPY] = entropy;
        if (!call.temperature.value || done != ALL) return;
        float missing = call.target_entropy - entropy;  // H̄ + mean log π
        call.info[ALPHA_LOSS] = -*call.temperature.value * missing;
        *call.temperature.gradient = -missing;
        call.temperature.adam(0, 1);
    }

    double actor_loss() const {
        double total = 0;
        for (int c = 0; c < batch; c++)
            total += alpha * log_prob[c] - q[(int64_t)lowest(c) * ld + c];
        return total / batch;
    }

    // The share of thread w; both meet wherever one reads what the other has written. What is not
    // finite is found before it reaches a parameter.
    Done share_of(int w) {
        const int first = call.follow ? 0 : columns;
        Span mine = share(2 * columns - first, w, threads, LANES);
        act(w, {mine.begin + first, mine.end + first});
        if (w == 0) {
            columns_of(call.obs, spec.states, taken, {0, columns});
            columns_of(call.actions, spec.actions, taken + (int64_t)spec.states * ld, {0, columns});
        }
        meet();
        if (Critic::SHARES_PASS) join(w);
        if (!finite[0] || !finite[1]) return NOTHING;
        for (int i = w; i < spec.critics; i += threads) value_next(i, w);
        meet();
        aim(w);
        for (int i = w; i < spec.critics; i += threads) regress(i, w);
        meet();
        if (!std::isfinite((float)(critic_loss[0] + critic_loss[1]))) return NOTHING;
        if (!call.critic.finite_gradient()) return NOTHING;
        for (int i = w; i < spec.critics; i += threads) step(i, w);
        meet();
        if (!call.follow || !std::isfinite((float)actor_loss())) return CRITICS;
        for (int i = w; i < spec.critics; i += threads) slope(i, w);
        meet();
        improve(w);
        meet();
        gather_gradient(w);
        meet();
        if (!call.actor.finite_gradient()) return CRITICS;
        mine = share(actor.size() + head[0].size(), w, threads, 16);
        call.actor.adam(mine.begin, mine.end);
        return ALL;
    }

    void meet() {
        if (both) both->meet();
    }

    Done run() {
        const float* log_alpha = call.temperature.value;
        alpha = log_alpha ? std::exp(*log_alpha) : call.alpha;
        if (threads == 1) return share_of(0);
        Done done[MAX_THREADS];
        both = &pair();
        both->run([&](int w) { done[w] = share_of(w); });
        return done[0];
    }
};

// What visit(update) returns, for the critics of the spec.
template <class Visit>
int with_update(const Spec& spec, const Call& call, Visit visit) {
    auto with = [&]<class Critic>(Update<Critic> update) { return visit(update); };
    if (spec.kind == RESIDUAL) return with(Update<ResidualCritic>(spec, call));
    if (spec.kind == RENORM) return with(Update<RenormCritic>(spec, call));
    return with(Update<PlainCritic>(spec, call));
}

}  // namespace

extern "C" {

// target ← target + τ (source − target)
void vaerl_follow(float* target, const float* source, float tau, int64_t count) {
    for (int64_t i = 0; i < count; i++) target[i] += tau * (source[i] - target[i]);
}

// Sizes of both structures, to notice a library of another version.
int64_t vaerl_sac_layout() { return sizeof(Spec) * 65536 + sizeof(Call); }

// Floats in the workspace, in the flat memory of the actor and of the critics, and their statistics.
void vaerl_sac_sizes(const Spec* spec, int64_t* sizes) {
    with_update(*spec, {}, [&](auto& update) {
        sizes[0] = update.arena.used;
        sizes[1] = update.actor.size() + update.head[0].size();
        sizes[2] = update.critic.total, sizes[3] = 0;
        if constexpr (requires { update.critic.statistics; }) sizes[3] = update.critic.statistics;
        return 0;
    });
}

// Draws actions in (−1, 1) at the observations, a row each; whether all are finite.
int vaerl_sac_act(const Spec* spec, const Call* call, float* actions) {
    return with_update(*spec, *call, [&](auto& update) {
        update.act(0, {0, update.columns});
        for (int c = 0; c < spec->batch; c++)
            for (int j = 0; j < spec->actions; j++)
                *actions++ = update.actor.h[0][(int64_t)(spec->states + j) * update.ld + c];
        return (int)update.finite[0];
    });
}

// What it has updated: less than all where a loss or a gradient is not finite.
int vaerl_sac_update(const Spec* spec, const Call* call) {
    return with_update(*spec, *call, [](auto& update) {
        Done done = update.run();
        update.report(done);
        return (int)done;
    });
}
}
