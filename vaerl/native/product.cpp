// Products in float32.
#include "product.h"

namespace {

struct Float32 {
    static constexpr int TERMS = 1;
    static V of_rows(const float* from, int, int count, int) { return some(from, count); }
    static V of_row(const float* from, int left) { return some(from, left); }
    static V add(V total, float a, V b) { return total + a * b; }
};

}  // namespace

void product_float32(const Factors& f) { multiply<Float32>(f); }

extern "C" {

int vaerl_has_bfloat16() { return has_bfloat16(); }

// One product, for tests; `across` holds both factors' flags.
void vaerl_product(int bfloat16, const int* across, const int* sizes, const float* a,
                   const float* b, float* c) {
    const int m = sizes[0], n = sizes[1], k = sizes[2];
    Factors factors{.a_across = across[0] != 0, .b_across = across[1] != 0, .m = m, .n = n, .k = k,
                    .a = a, .lda = across[0] ? m : k, .b = b, .ldb = across[1] ? k : n,
                    .c = c, .ldc = n};
    bfloat16 ? product_bfloat16(factors) : product_float32(factors);
}
}

int64_t packed_size(int m, int k) { return (panels(m, k) + 15) / 16 * 16; }

void pack_float32(const Factors& f, float* to) {
    pack<Float32>(f.a, f.lda, f.a_across, f.m, f.k, TALL, to);
}
