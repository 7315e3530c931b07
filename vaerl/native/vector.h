// LANES floats side by side, one state a lane, and the functions that the densities need of them.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#ifndef LANES
#define LANES 4
#endif

typedef float V __attribute__((vector_size(4 * LANES)));
typedef int32_t I __attribute__((vector_size(4 * LANES)));

inline V load(const float* at) {
    V value;
    memcpy(&value, at, sizeof value);
    return value;
}

inline void store(float* at, V value) { memcpy(at, &value, sizeof value); }

inline V all(float value) { return V{} + value; }

inline V larger(V a, V b) { return a > b ? a : b; }

inline V within(V x, float size) {
    x = x > size ? all(size) : x;
    return x < -size ? all(-size) : x;
}

inline float sum(V v) {
    float part[LANES];
    memcpy(part, &v, sizeof v);
    for (int half = LANES / 2; half; half /= 2)
        for (int lane = 0; lane < half; lane++) part[lane] += part[lane + half];
    return part[0];
}

// e^x to a relative 1e-7, x held within the range of normal floats (Cephes).
inline V exponential(V x) {
    x = x < -87.0f ? all(-87.0f) : x;
    x = x > 88.0f ? all(88.0f) : x;
    V whole = x * 1.44269504f + 12582912.0f;  // 1.5 · 2^23: what follows the point falls off
    whole -= 12582912.0f;
    V r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    V p = all(1.9875691500e-4f);
    for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 0.5f})
        p = p * r + c;
    I power = (__builtin_convertvector(whole, I) + 127) << 23;
    return (p * r * r + r + 1.0f) * (V)power;
}

// log x of positive normal floats to 1e-7 (Cephes); of NaN, NaN.
inline V logarithm(V x) {
    I bits = (I)x;
    I small = ((bits & 0x007fffff) | 0x3f000000);
    V m = (V)small;  // in [½, 1)
    I low = m < 0.707106781f;
    V e = __builtin_convertvector((bits >> 23) - 126 + low, V);
    m = (low ? m + m : m) - 1.0f;
    V p = all(7.0376836292e-2f);
    for (float c : {-1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f, 1.4249322787e-1f,
                    -1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f, 3.3333331174e-1f})
        p = p * m + c;
    V square = m * m;
    V found = m + (p * m * square - e * 2.12194440e-4f - 0.5f * square) + e * 0.693359375f;
    return x == x ? found : x;
}

inline V sigmoid(V x) { return 1.0f / (1.0f + exponential(-x)); }

inline V hyperbolic_tangent(V x) { return 2.0f / (1.0f + exponential(-2.0f * x)) - 1.0f; }

// log(1 − tanh² x) = 2 (log 2 − x − log(1 + e^{−2x})), the last term from the side where it is small.
inline V log_slope_of_tanh(V x) {
    V size = larger(x, -x);
    return 2.0f * (0.693147181f - size - logarithm(1.0f + exponential(-2.0f * size)));
}

// The elements of both from number FROM on, alternately.
template <int FROM, int... AT>
inline V interleave(V a, V b, std::integer_sequence<int, AT...>) {
    return __builtin_shufflevector(a, b, (AT % 2 * LANES + FROM + AT / 2)...);
}

// Turns a square of LANES vectors: number i then holds element i of each.
inline void turn(V* square) {
    const auto all_of_them = std::make_integer_sequence<int, LANES>();
    for (int stage = 1; stage < LANES; stage *= 2) {
        V old[LANES];
        memcpy(old, square, sizeof old);
        for (int i = 0; i < LANES / 2; i++) {
            square[2 * i] = interleave<0>(old[i], old[i + LANES / 2], all_of_them);
            square[2 * i + 1] = interleave<LANES / 2>(old[i], old[i + LANES / 2], all_of_them);
        }
    }
}

// Numbers of LANES states, `step` floats apart, from state `first` on; 0 past the last of `count`.
inline V gather(const float* from, int first, int count, int step) {
    V value{};
    for (int lane = 0; lane < LANES; lane++)
        if (first + lane < count) value[lane] = from[(int64_t)(first + lane) * step];
    return value;
}
