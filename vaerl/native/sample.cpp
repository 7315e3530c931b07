// Draws of a folded density at many contexts; vaerl/densities/fold.py is the definition.
#include <algorithm>

#include "film.h"
#include "pair.h"

namespace {

enum Head { FIXED, NORMAL, MIXTURE, WEIGHTED };  // N(0, I), learned, of equal or learned weights
const int COLUMNS = 128;                         // states that go through all layers at once

// Laid out as `Spec` in vaerl/native/sample.py.
struct Spec {
    int32_t members, rows, threads, half;  // half: products in bfloat16 behind the first layer
    int32_t depth, widths[MAX_DEPTH + 1], activation;
    int32_t head, components, size, layer, hidden, blocks, events;
    float head_width, layer_width;  // of the range of log σ
};

// What one call reads and writes. Contexts are `member_step` and `row_step` floats apart, all else
// lies in rows, member by member.
struct Call {
    const float *context, *packed, *uniform, *head_noise, *layer_noise;
    int64_t member_step, row_step;
    float *out, *work;
};

inline V silu(V x) { return x * sigmoid(x); }

// Walks through the parameters of one member.
struct Reader {
    const float* at;
    const float* next(int64_t count) { return (at += count) - count; }
};

struct Sampler {
    const Spec& s;
    const Call& call;
    Arena arena;
    int ld = COLUMNS + 16;
    float *one, *two, *given, *z, *h, *inner, *y;

    Sampler(const Spec& s, const Call& call, float* work) : s(s), call(call), arena{work} {
        int widest = 0;
        for (int l = 0; l < s.depth; l++) widest = std::max(widest, (int)s.widths[l]);
        one = rows(widest), two = rows(widest), given = rows(s.widths[s.depth]);
        z = rows(s.size), h = rows(s.hidden), inner = rows(s.hidden);
        y = rows(std::max(2 * s.events, s.hidden));
    }

    float* rows(int count) { return arena.take((int64_t)count * ld); }
    int out() const { return s.layer ? s.events : s.size; }

    // Calls matrix(inputs, outputs) and vector(size) for the parameters of a member.
    template <class Matrix, class Vector>
    static void each_part(const Spec& s, Matrix matrix, Vector vector) {
        for (int l = 0; l < s.depth; l++) matrix(s.widths[l], s.widths[l + 1]), vector(s.widths[l + 1]);
        if (s.head != FIXED) vector(s.size);
        if (!s.layer) return;
        matrix(s.size, s.hidden);
        for (int b = 0; b < s.blocks; b++)
            matrix(s.hidden, s.hidden), vector(s.hidden), matrix(s.hidden, s.hidden);
        matrix(s.hidden, 2 * s.events), vector(2 * s.events), vector(s.events);
    }

    static int64_t packed(const Spec& s) {  // floats of a member
        int64_t total = 0;
        each_part(s, [&](int in, int out) { total += packed_size(out, in); },
                  [&](int count) { total += count; });
        return (total + 15) / 16 * 16;
    }

    // to = from W, and + b; `exact`: in float32, since contexts come in their own units
    void affine(Reader& p, int in, int out, const float* from, float* to, int columns, bool biased,
                bool exact = false) const {
        const float* w = p.next(packed_size(out, in));
        const Factors factors{.m = out, .n = columns, .k = in, .b = from, .ldb = ld, .c = to, .ldc = ld,
                              .bias = biased ? p.next(out) : nullptr, .packed = w};
        s.half && !exact ? product_bfloat16(factors) : product_float32(factors);
    }

    template <class Change>
    void each(float* from, int rows, int columns, Change change) const {
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < columns; c += LANES) {
                float* at = from + (int64_t)r * ld + c;
                store(at, change(load(at), r, c));
            }
    }

    V given_at(int r, int c) const { return load(given + (int64_t)r * ld + c); }

    // Draws for `count` states of member m from state `first` on.
    void run(int m, int first, int count) const {
        const int columns = (count + LANES - 1) / LANES * LANES;
        const int64_t row = (int64_t)m * s.rows + first;
        Reader p{call.packed + m * packed(s)};
        float *from = one, *to = two;
        for (int j = 0; j < s.widths[0]; j++)
            for (int c = 0; c < columns; c++)
                from[(int64_t)j * ld + c] = c < count
                    ? call.context[m * call.member_step + (first + c) * call.row_step + j] : 0;
        for (int l = 0; l < s.depth; l++) {
            const bool last = l + 1 == s.depth;
            affine(p, s.widths[l], s.widths[l + 1], from, last ? given : to, columns, true, l == 0);
            if (last) break;
            each(to, s.widths[l + 1], columns, [&](V x, int, int) {
                return s.activation == SILU ? silu(x) : s.activation == RELU ? larger(x, V{})
                                                                             : hyperbolic_tangent(x);
            });
            std::swap(from, to);
        }
        const float* low = p.next(s.head == FIXED ? 0 : s.size);
        const int film = s.layer ? (2 * s.blocks + 1) * s.hidden : 0;
        for (int c = 0; c < columns; c += LANES) draw(film, low, row, c, count);
        const float* drawn = s.layer ? decode(p, row, columns, count) : z;
        for (int c = 0; c < count; c++)
            for (int j = 0; j < out(); j++)
                call.out[(row + c) * out() + j] = drawn[(int64_t)j * ld + c];
    }

    // The head's point at the states of a tile.
    void draw(int base, const float* low, int64_t row, int c, int count) const {
        const V number = s.head >= MIXTURE ? component(base, row, c, count) : V{};
        for (int j = 0; j < s.size; j++) {
            V value = gather(call.head_noise + row * s.size + j, c, count, s.size);
            if (s.head != FIXED) {
                V mean = given_at(base + j, c), raw = given_at(base + s.size + j, c);
                for (int m = 1; m < s.components; m++) {
                    const int at = base + 2 * m * s.size + j;
                    mean = number == (float)m ? given_at(at, c) : mean;
                    raw = number == (float)m ? given_at(at + s.size, c) : raw;
                }
                value = mean + exponential(low[j] + s.head_width * sigmoid(raw)) * value;
            }
            store(z + (int64_t)j * ld + c, value);
        }
    }

    // Number of the component that u picks.
    V component(int base, int64_t row, int c, int count) const {
        const int M = s.components, logits = base + 2 * M * s.size;
        V u = gather(call.uniform + row, c, count, 1), number{};
        if (s.head == MIXTURE) {
            for (int m = 1; m < M; m++) number += u * (float)M >= (float)m ? all(1.0f) : V{};
            return number;
        }
        V highest = given_at(logits, c), total{}, edge{};
        for (int m = 1; m < M; m++) highest = larger(given_at(logits + m, c), highest);
        for (int m = 0; m < M; m++) total += exponential(given_at(logits + m, c) - highest);
        for (int m = 0; m + 1 < M; m++) {
            edge += exponential(given_at(logits + m, c) - highest) / total;
            number += u >= edge ? all(1.0f) : V{};
        }
        return number;
    }

    // The child of z in a FiLM network.
    const float* decode(Reader& p, int64_t row, int columns, int count) const {
        affine(p, s.size, s.hidden, z, h, columns, false);
        each(h, s.hidden, columns, [&](V x, int r, int c) { return x + given_at(r, c); });
        for (int b = 0; b < s.blocks; b++) {
            const int scale = (2 * b + 1) * s.hidden, shift = scale + s.hidden;
            affine(p, s.hidden, s.hidden, h, inner, columns, true);
            each(inner, s.hidden, columns, [&](V x, int r, int c) {
                return silu(x * within(given_at(scale + r, c), FILM_SCALE) + given_at(shift + r, c));
            });
            affine(p, s.hidden, s.hidden, inner, y, columns, false);
            each(h, s.hidden, columns, [&](V x, int r, int c) {
                return x + load(y + (int64_t)r * ld + c);
            });
        }
        each(h, s.hidden, columns, [](V x, int, int) { return silu(x); });
        affine(p, s.hidden, 2 * s.events, h, y, columns, true);
        const float* low = p.next(s.events);
        each(y, s.events, columns, [&](V mean, int j, int c) {
            V raw = load(y + (int64_t)(s.events + j) * ld + c);
            V noise = gather(call.layer_noise + row * s.events + j, c, count, s.events);
            return mean + exponential(low[j] + s.layer_width * sigmoid(raw)) * noise;
        });
        return y;
    }

    // Every threads-th block of states.
    void share_of(int w) const {
        int block = 0;
        for (int m = 0; m < s.members; m++)
            for (int first = 0; first < s.rows; first += COLUMNS)
                if (block++ % s.threads == w) run(m, first, std::min(COLUMNS, s.rows - first));
    }
};

}  // namespace

extern "C" {

// Sizes of both structures, to notice a library of another version.
int64_t vaerl_sample_layout() { return sizeof(Spec) * 65536 + sizeof(Call); }

// Floats in the workspace of one thread, and in the packed parameters of one member.
void vaerl_sample_sizes(const Spec* spec, int64_t* sizes) {
    sizes[0] = Sampler(*spec, Call{}, nullptr).arena.used, sizes[1] = Sampler::packed(*spec);
}

// Packs the parameters of all members, W (inputs × outputs) and b in the order of `each_part`.
void vaerl_sample_pack(const Spec* spec, const float* from, float* to) {
    for (int m = 0; m < spec->members; m++) {
        float* at = to + m * Sampler::packed(*spec);
        bool exact = true;
        Sampler::each_part(*spec, [&](int in, int out) {
            const Factors factors{.a_across = true, .m = out, .k = in, .a = from, .lda = out};
            spec->half && !exact ? pack_bfloat16(factors, at) : pack_float32(factors, at);
            exact = false;
            from += (int64_t)in * out, at += packed_size(out, in);
        }, [&](int count) {
            memcpy(at, from, sizeof(float) * count);
            from += count, at += count;
        });
    }
}

void vaerl_sample(const Spec* spec, const Call* call) {
    Sampler own(*spec, *call, call->work);
    if (spec->threads == 1) return own.share_of(0);
    Sampler other(*spec, *call, call->work + own.arena.used);
    pair().run([&](int w) { (w ? other : own).share_of(w); });
}
}
