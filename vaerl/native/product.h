// Matrix products on one thread: both factors are packed into panels, and a tile of the result is
// summed in registers.
#pragma once

#include <cmath>
#include <vector>

#include "vector.h"

// c = op(a) op(b) for c (m, n) with k terms in each sum; then, if given, + bias of the row, not
// below floor, and 0 where `on` (laid out as c) is not positive. `across` factors are transposed.
struct Factors {
    bool a_across = false, b_across = false;
    int m = 0, n = 0, k = 0;
    const float* a = nullptr;
    int lda = 0;
    const float* b = nullptr;
    int ldb = 0;
    float* c = nullptr;
    int ldc = 0;
    const float* bias = nullptr;
    float floor = -INFINITY;
    const float* on = nullptr;
    const float* packed = nullptr;  // a, as the product's own `pack_…` leaves it
    bool add = false;               // to what c holds
};

void product_float32(const Factors& f);
int64_t packed_size(int m, int k);
void pack_float32(const Factors& f, float* to);  // of its a
bool has_bfloat16();
void product_bfloat16(const Factors& f);  // of factors rounded to bfloat16, sums in float32
void pack_bfloat16(const Factors& f, float* to);

namespace {

const int TALL = LANES == 16 ? 14 : LANES == 8 ? 6 : 4;  // rows of a tile, at most LANES
const int WIDE = 2;                                      // and its vectors in a row

// At most `count` floats, the others 0.
inline V some(const float* from, int count) {
    if (count >= LANES) return load(from);
    V value{};
    if (count > 0) memcpy(&value, from, count * sizeof(float));
    return value;
}

// Floats of a packed factor with m rows.
inline int64_t panels(int m, int words) { return (int64_t)(m + TALL - 1) / TALL * TALL * words + LANES; }

// Packs [0, count) of a factor in panels of `width`, one word for each term of the sums, or for
// each TERMS of them. `along`: numbers of a panel lie side by side, else the terms do. What goes
// beyond a width is overwritten by the next word.
template <class Word>
void pack(const float* from, int ld, bool along, int count, int k, int width, float* to) {
    const int words = (k + Word::TERMS - 1) / Word::TERMS;
    for (int i = 0; i < count; i += width, to += width * words) {
        const int rows = count - i < width ? count - i : width;
        if (along) {
            for (int w = 0; w < words; w++)
                for (int h = 0; h < rows; h += LANES)
                    store(to + w * width + h,
                          Word::of_rows(from + (int64_t)w * Word::TERMS * ld + i + h, ld,
                                        count - i - h, k - w * Word::TERMS));
            continue;
        }
        for (int h = 0; h < rows; h += LANES)
            for (int w = 0; w < words; w += LANES) {
                V block[LANES];
                for (int q = 0; q < LANES; q++)
                    block[q] = h + q < rows ? Word::of_row(from + (int64_t)(i + h + q) * ld + w * Word::TERMS,
                                                           k - w * Word::TERMS) : V{};
                turn(block);
                const int left = words - w < LANES ? words - w : LANES;
                for (int q = 0; q < left; q++) store(to + (int64_t)(w + q) * width + h, block[q]);
            }
    }
}

template <class Word, int ROWS, int VECTORS>
void tile(const Factors& f, int row, int column, const float* a, const float* b) {
    V total[ROWS][VECTORS] = {};
    for (int k = 0; k < f.k; k += Word::TERMS, a += TALL, b += WIDE * LANES) {
        V factor[VECTORS];
        for (int j = 0; j < VECTORS; j++) factor[j] = load(b + j * LANES);
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < VECTORS; j++) total[i][j] = Word::add(total[i][j], a[i], factor[j]);
    }
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < VECTORS; j++) {
            const int left = f.n - column - j * LANES;
            const int64_t at = (int64_t)(row + i) * f.ldc + column + j * LANES;
            V value = total[i][j];
            if (f.bias) value += f.bias[row + i];
            if (f.add) value += some(f.c + at, left);
            if (f.floor > -INFINITY) value = value < f.floor ? all(f.floor) : value;  // NaN stays
            if (f.on) value = some(f.on + at, left) > 0.0f ? value : V{};
            if (left >= LANES) store(f.c + at, value);
            else if (left > 0) memcpy(f.c + at, &value, left * sizeof(float));
        }
}

template <class Word, int ROWS>
void tile_of(int rows, const Factors& f, int row, int column, const float* a, const float* b) {
    if (rows >= ROWS && f.n - column > LANES) return tile<Word, ROWS, WIDE>(f, row, column, a, b);
    if (rows >= ROWS) return tile<Word, ROWS, 1>(f, row, column, a, b);
    if constexpr (ROWS > 1) tile_of<Word, ROWS - 1>(rows, f, row, column, a, b);
}

template <class Word>
void multiply(const Factors& f) {
    thread_local std::vector<float> memory;
    const int width = WIDE * LANES, words = (f.k + Word::TERMS - 1) / Word::TERMS;
    const int64_t size = f.packed ? 0 : panels(f.m, words);
    if ((int64_t)memory.size() < size + width * words) memory.resize(size + width * words);
    float *b = memory.data() + size, *own = memory.data();
    const float* a = f.packed ? f.packed : own;
    if (!f.packed) pack<Word>(f.a, f.lda, f.a_across, f.m, f.k, TALL, own);
    for (int column = 0; column < f.n; column += width) {
        const int64_t from = f.b_across ? (int64_t)column * f.ldb : column;
        pack<Word>(f.b + from, f.ldb, !f.b_across, f.n - column < width ? f.n - column : width, f.k, width, b);
        for (int row = 0; row < f.m; row += TALL)
            tile_of<Word, TALL>(f.m - row, f, row, column, a + (int64_t)row * words, b);
    }
}

}  // namespace
