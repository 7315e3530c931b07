// Products of factors that are rounded to bfloat16, on processors with AVX512-BF16.
#if LANES == 16 && defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512bf16")
#include <immintrin.h>

#include "product.h"

namespace {

// A word holds two terms side by side.
struct Bfloat16 {
    static constexpr int TERMS = 2;

    static V of_rows(const float* from, int ld, int count, int left) {
        V first = some(from, count), second = left > 1 ? some(from + ld, count) : V{};
        const I order = pairs();
        return (V)_mm512_permutexvar_epi16((__m512i)order, round(second, first));
    }

    static V of_row(const float* from, int left) {
        return (V)round(some(from + LANES, left - LANES), some(from, left));
    }

    static V add(V total, float a, V b) {
        return (V)_mm512_dpbf16_ps((__m512)total, (__m512bh)_mm512_set1_ps(a), (__m512bh)b);
    }

  private:
    static __m512i round(V high, V low) {
        return (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
    }

    // Numbers 0, 16, 1, 17, … of 32.
    static I pairs() {
        I order;
        for (int i = 0; i < LANES; i++) order[i] = i | (i + LANES) << 16;
        return order;
    }
};

}  // namespace

bool has_bfloat16() { return __builtin_cpu_supports("avx512bf16"); }
void product_bfloat16(const Factors& f) { multiply<Bfloat16>(f); }
void pack_bfloat16(const Factors& f, float* to) {
    pack<Bfloat16>(f.a, f.lda, f.a_across, f.m, f.k, TALL, to);
}
#else
#include "product.h"

bool has_bfloat16() { return false; }
void product_bfloat16(const Factors& f) { product_float32(f); }
void pack_bfloat16(const Factors& f, float* to) { pack_float32(f, to); }
#endif
