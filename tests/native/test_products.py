"""Products of the native library are those of float64, up to the rounding of float32."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
import torch
from torch import Tensor

from vaerl.native.library import VARIANTS, load, runs_here

SIZES = [
    (1, 1, 1),
    (3, 5, 2),
    (14, 32, 16),
    (15, 33, 31),
    (37, 41, 13),
    (1, 70, 257),
    (128, 65, 96),
]
"""(m, n, k): whole tiles of each variant, and what is left over."""


@pytest.fixture(params=[(name, bf16) for name in VARIANTS for bf16 in (False, True)], ids=str)
def product(request: Any) -> Any:
    """op(a) op(b) by a variant, and the rounding of its factors."""
    name, bf16 = request.param
    if not runs_here(name):
        pytest.skip(f"{name} is not for this processor")
    library = load(name)[1]
    if bf16 and not library.vaerl_has_bfloat16():
        pytest.skip("no products in bfloat16")

    def multiply(a: Tensor, b: Tensor, a_across: bool, b_across: bool) -> Tensor:
        c = torch.full((len(a) + 1, b.shape[1]), 7.0)
        given = [
            each.T.contiguous() if across else each
            for each, across in ((a, a_across), (b, b_across))
        ]
        library.vaerl_product(
            bf16,
            (ctypes.c_int * 2)(a_across, b_across),
            (ctypes.c_int * 3)(len(a), b.shape[1], len(b)),
            *(ctypes.c_void_p(t.data_ptr()) for t in (*given, c)),
        )
        assert bool((c[-1] == 7).all()), "written past the end"
        return c[:-1]

    return multiply, torch.bfloat16 if bf16 else torch.float32


@pytest.mark.parametrize("a_across", [False, True])
@pytest.mark.parametrize("b_across", [False, True])
def test_products(product: Any, a_across: bool, b_across: bool) -> None:
    """For odd sizes, with any factor transposed: |error| ≤ k ε Σ|a b|, ε = 2⁻²⁴."""
    multiply, kind = product
    torch.manual_seed(0)
    for m, n, k in SIZES:
        a, b = torch.randn(m, k), torch.randn(k, n)
        found = multiply(a, b, a_across, b_across)
        a, b = (each.to(kind).double() for each in (a, b))
        assert bool(((found - a @ b).abs() <= k * 2.0**-24 * (a.abs() @ b.abs())).all()), (m, n, k)


def test_what_is_not_finite_stays_so(product: Any) -> None:
    """NaN and infinity reach their row and no other."""
    multiply, _ = product
    a, b = torch.ones(20, 40), torch.ones(40, 50)
    a[3, 7], a[5, 0] = torch.nan, torch.inf
    found = multiply(a, b, False, False)
    assert bool(found[3].isnan().all()) and bool((found[5] == torch.inf).all())
    assert bool(found[[0, 4, 19]].isfinite().all())
