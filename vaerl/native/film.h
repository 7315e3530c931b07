// A FiLM residual network (vaerl/nets.py) on tiles of LANES states: forward, backward, and its
// weights' gradient as sums of outer products. Vectors of features are padded with zeros to ROWS.
#pragma once

#include "dense.h"

const int ROWS = 8;  // rows of a matrix that share one pass over its input

inline int rows_of(int count) { return (count + ROWS - 1) / ROWS * ROWS; }

// y = W x + start for LANES states at once; `packed` holds ROWS rows of W side by side.
template <class Start>
inline void multiply(const float* packed, int rows, int columns, const V* x, Start start, V* y) {
    for (int r = 0; r < rows; r += ROWS, packed += ROWS * columns) {
        V total[ROWS];
        for (int i = 0; i < ROWS; i++) total[i] = start(r + i);
        for (int c = 0; c < columns; c++)
            for (int i = 0; i < ROWS; i++) total[i] += packed[c * ROWS + i] * x[c];
        for (int i = 0; i < ROWS; i++) y[r + i] = total[i];
    }
}

inline void pack(const float* w, int rows, int columns, int row_step, int column_step, float* to) {
    for (int r = 0; r < rows_of(rows); r += ROWS)
        for (int c = 0; c < columns; c++)
            for (int i = 0; i < ROWS; i++, to++)
                *to = r + i < rows ? w[(r + i) * row_step + c * column_step] : 0;
}

const int PATHS = 4;  // whose outer products are added in one pass over their sum

// A linear layer on tiles, with its gradient.
struct Linear {
    int rows, columns;
    int blocks;  // vectors in a row of its gradient
    float *forth, *back, *bias, *slopes;
    V* shifts;  // lane by lane

    Linear() = default;
    Linear(Arena& arena, int rows, int columns)
        : rows(rows), columns(columns), blocks((columns + LANES - 1) / LANES) {
        forth = arena.take(rows_of(rows) * columns);
        back = arena.take(rows_of(columns) * rows);
        bias = arena.take(rows_of(rows));
        slopes = arena.take(rows_of(rows) * blocks * LANES);
        shifts = arena.vectors(rows_of(rows));
    }

    int64_t size() const { return rows * columns + rows; }  // W, then b

    void read(const float* flat) {
        pack(flat, rows, columns, columns, 1, forth);
        pack(flat, columns, rows, 1, columns, back);
        pack(flat + rows * columns, rows, 1, 1, 1, bias);
        memset(slopes, 0, sizeof(V) * rows_of(rows) * blocks);
        memset(shifts, 0, sizeof(V) * rows_of(rows));
    }

    template <class Start>
    void forward(const V* x, Start start, V* y) const {
        multiply(forth, rows_of(rows), columns, x,
                 [&](int r) { return start(r) + bias[r]; }, y);
    }

    // W' d + start: the derivative in x.
    template <class Start>
    void backward(const V* d, Start start, V* dx) const {
        multiply(back, rows_of(columns), rows, d, start, dx);
    }

    // Adds d ⊗ x of all states of `paths` pairs that lie `step` vectors apart; `turned` is scratch.
    void add(const V* d, const V* x, int paths, int step, V* turned) {
        for (int p = 0; p < paths; p += PATHS) {
            const int count = paths - p < PATHS ? paths - p : PATHS;
            for (int q = 0; q < count; q++)
                for (int b = 0; b < blocks; b++) {
                    V square[LANES];  // what it holds beyond the columns ends beyond the columns
                    memcpy(square, x + (p + q) * step + b * LANES, sizeof square);
                    turn(square);
                    for (int i = 0; i < LANES; i++)
                        turned[(q * LANES + i) * blocks + b] = square[i];
                }
            int b = 0;
            for (; b + 4 <= blocks; b += 4) add_blocks<4>(d + p * step, count, step, turned, b);
            for (; b + 2 <= blocks; b += 2) add_blocks<2>(d + p * step, count, step, turned, b);
            for (; b < blocks; b++) add_blocks<1>(d + p * step, count, step, turned, b);
        }
        for (int p = 0; p < paths; p++)
            for (int r = 0; r < rows; r++) shifts[r] += d[p * step + r];
    }

    template <int N>
    void add_blocks(const V* d, int paths, int step, const V* turned, int b) {
        for (int r = 0; r < rows; r += 4) {
            V total[4][N];
            float* to = slopes + (r * blocks + b) * LANES;
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < N; j++) total[i][j] = load(to + (i * blocks + j) * LANES);
            for (int p = 0; p < paths; p++) {
                const float* dp = (const float*)(d + p * step + r);
                const V* xp = turned + p * LANES * blocks + b;
                for (int lane = 0; lane < LANES; lane++)
                    for (int i = 0; i < 4; i++)
                        for (int j = 0; j < N; j++)
                            total[i][j] += dp[i * LANES + lane] * xp[lane * blocks + j];
            }
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < N; j++) store(to + (i * blocks + j) * LANES, total[i][j]);
        }
    }

    void write(float* gradient) const {
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < columns; c++) *gradient++ += slopes[r * blocks * LANES + c];
        for (int r = 0; r < rows; r++) *gradient++ += sum(shifts[r]);
    }
};

const int MAX_BLOCKS = 4;
const float FILM_SCALE = 100;  // the largest size of a scale (vaerl/nets.py)

struct Film {
    int in, hidden, out, blocks;
    int width;  // hidden, padded
    Linear enter, up[MAX_BLOCKS], down[MAX_BLOCKS], leave;
    V *film, *d_film;  // f0, then scale and shift of each block, of the present tile
    V* turned;

    // What one path leaves behind, in vectors from its start.
    int x() const { return 0; }
    int block(int b) const { return rows_of(in) + 6 * b * width; }
    int h(int b) const { return block(b); }
    int lifted(int b) const { return block(b) + width; }
    int bent(int b) const { return block(b) + 2 * width; }
    int slope(int b) const { return block(b) + 3 * width; }
    int d_down(int b) const { return block(b) + 4 * width; }
    int d_up(int b) const { return block(b) + 5 * width; }
    int last() const { return block(blocks); }
    int last_slope() const { return last() + width; }
    int d_enter() const { return last() + 2 * width; }
    int y() const { return last() + 3 * width; }
    int d_y() const { return y() + rows_of(out); }
    int step() const { return d_y() + rows_of(out); }

    Film() = default;
    Film(Arena& arena, int in, int hidden, int out, int blocks)
        : in(in), hidden(hidden), out(out), blocks(blocks), width(rows_of(hidden)) {
        enter = Linear(arena, hidden, in);
        for (int b = 0; b < blocks; b++) {
            up[b] = Linear(arena, hidden, hidden);
            down[b] = Linear(arena, hidden, hidden);
        }
        leave = Linear(arena, out, hidden);
        turned = arena.vectors(PATHS * LANES * (enter.blocks + leave.blocks));
        film = arena.vectors((2 * blocks + 1) * width);
        d_film = arena.vectors((2 * blocks + 1) * width);
    }

    int rows() const { return (2 * blocks + 1) * hidden; }  // that it takes of the head

    // Calls visit(layer, its parameters in `flat`); returns what follows them.
    template <class Visit>
    float* each(float* flat, Visit visit) {
        auto next = [&](Linear& layer) { visit(layer, flat), flat += layer.size(); };
        next(enter);
        for (int b = 0; b < blocks; b++) next(up[b]), next(down[b]);
        next(leave);
        return flat;
    }

    void load_tile(const float* head, int ld) {
        for (int part = 0; part < 2 * blocks + 1; part++)
            for (int i = 0; i < width; i++) {
                int64_t row = part * hidden + i;
                V value = i < hidden ? load(head + row * ld) : V{};
                film[part * width + i] = part % 2 ? within(value, FILM_SCALE) : value;
                d_film[part * width + i] = V{};
            }
    }

    void store_tile(float* d_head, int ld) const {
        for (int part = 0; part < 2 * blocks + 1; part++)
            for (int i = 0; i < hidden; i++) {
                V size = larger(film[part * width + i], -film[part * width + i]), d = d_film[part * width + i];
                if (part % 2) d = size < FILM_SCALE ? d : V{};  // the bound has no slope
                store(d_head + (int64_t)(part * hidden + i) * ld, d);
            }
    }

    static void bend(V a, V& silu, V& slope) {
        V s = sigmoid(a);
        silu = a * s;
        slope = s + silu * (1.0f - s);
    }

    void forward(V* path) const {
        V* h_now = path + h(0);
        enter.forward(path + x(), [&](int r) { return film[r]; }, blocks ? h_now : path + last());
        for (int b = 0; b < blocks; b++) {
            const V *scale = film + (2 * b + 1) * width, *shift = scale + width;
            h_now = path + h(b);
            up[b].forward(h_now, [](int) { return V{}; }, path + lifted(b));
            for (int i = 0; i < width; i++)
                bend(scale[i] * path[lifted(b) + i] + shift[i], path[bent(b) + i],
                     path[slope(b) + i]);
            down[b].forward(path + bent(b), [&](int r) { return h_now[r]; },
                            path + (b + 1 < blocks ? h(b + 1) : last()));
        }
        for (int i = 0; i < width; i++)
            bend(path[last() + i], path[last() + i], path[last_slope() + i]);
        leave.forward(path + last(), [](int) { return V{}; }, path + y());
    }

    // From the derivative in y at d_y to that in x; those in the layers' outputs stay in the path.
    void backward(V* path, V* dx) const {
        V* d = path + (blocks ? d_down(blocks - 1) : d_enter());
        leave.backward(path + d_y(), [](int) { return V{}; }, d);
        for (int i = 0; i < width; i++) d[i] *= path[last_slope() + i];
        for (int b = blocks - 1; b >= 0; b--) {
            const V* scale = film + (2 * b + 1) * width;
            V *d_scale = d_film + (2 * b + 1) * width, *d_shift = d_scale + width;
            V* du = path + d_up(b);
            down[b].backward(d, [](int) { return V{}; }, du);
            for (int i = 0; i < width; i++) {
                V da = du[i] * path[slope(b) + i];
                d_scale[i] += da * path[lifted(b) + i];
                d_shift[i] += da;
                du[i] = da * scale[i];
            }
            V* below = path + (b ? d_down(b - 1) : d_enter());
            up[b].backward(du, [&](int r) { return d[r]; }, below);
            d = below;
        }
        for (int i = 0; i < width; i++) d_film[i] += d[i];
        enter.backward(d, [](int) { return V{}; }, dx);
    }

    // The gradient of the weights, from paths that lie side by side.
    void add(const V* paths, int count) {
        enter.add(paths + d_enter(), paths + x(), count, step(), turned);
        for (int b = 0; b < blocks; b++) {
            up[b].add(paths + d_up(b), paths + h(b), count, step(), turned);
            down[b].add(paths + d_down(b), paths + bent(b), count, step(), turned);
        }
        leave.add(paths + d_y(), paths + last(), count, step(), turned);
    }
};
