"""Draws of a folded density by the native library are those of torch, from the same noise."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from vaerl.densities import make_density
from vaerl.dynamics.batched import batch_members
from vaerl.native import library
from vaerl.threads import limit_threads

TORCH = "0"
"""Value of VAERL_NATIVE."""
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "normal": ("gaussian", {}),
    "linear": ("gaussian", {"mean": "linear"}),
    "learned weights": ("mixture", {}),
    "equal weights": ("mixture", {"weights": "equal", "hidden": (7,)}),
    "cvae": ("cvae", {}),
    "cvae, equal weights": ("cvae", {"prior_weights": "equal", "hidden": 10, "blocks": 1}),
    "cvae, normal prior": ("cvae", {"prior": "gaussian", "blocks": 0}),
    "cvae, standard prior": ("cvae", {"prior": "standard", "latent_dims": (5,)}),
}


def density(form: str, members: int = 0) -> Any:
    name, options = FORMS[form]
    torch.manual_seed(0)
    made: list[Any] = [
        make_density(name, context_dim=3, event_dim=2, **options) for _ in range(members or 1)
    ]
    with torch.no_grad():  # far from the start, where much is 0
        for each in made:
            for parameter in each.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return batch_members(made) if members else made[0]


def units(*batch: int) -> tuple[Tensor, Tensor]:
    """Means and scales of members, or of one."""
    return torch.randn(*batch), torch.rand(*batch) + 0.5


def drawn(folded: Any, context: Tensor, seed: int = 3) -> Tensor:
    return folded(context, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("form", FORMS)
def test_a_draw_is_the_one_in_torch(
    form: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With and without members and units, for one row and for more than one block of rows."""
    for members in (0, 3):
        own, batch = density(form, members), [members] if members else []
        for given in ({}, {"inputs": units(3), "targets": units(2)}):
            ours = own.fold(**given)
            theirs = copy.deepcopy(ours)
            for rows in (1, 19, 300):
                context = torch.randn(*batch, rows, 3)
                with limit_threads(threads), torch.no_grad():
                    found = drawn(ours, context)
                    with monkeypatch.context() as patch:
                        patch.setenv("VAERL_NATIVE", TORCH)
                        expected = drawn(theirs, context)
                assert ours._sampler is not None and theirs._sampler is None
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_copies_make_their_own() -> None:
    """A copy or a pickle carries numbers only."""
    folded, context = density("cvae").fold(), torch.randn(4, 3)
    before = drawn(folded, context)
    for twin in (copy.deepcopy(folded), pickle.loads(pickle.dumps(folded))):
        assert twin._sampler is None
        assert torch.equal(drawn(twin, context), before)


def test_contexts_may_lie_anywhere() -> None:
    """Rows that alternate between members, as roll-outs share them out."""
    folded = density("cvae", 3).fold()
    shared = torch.randn(20, 3, 3).transpose(0, 1)
    assert torch.equal(drawn(folded, shared), drawn(folded, shared.contiguous()))
    column = torch.randn(3, 3, 20).mT
    assert torch.equal(drawn(folded, column), drawn(folded, column.contiguous()))


@pytest.mark.parametrize("form", ["cvae", "learned weights", "normal"])
def test_products_in_bfloat16_change_draws_by_their_rounding(form: str) -> None:
    """Behind the first layer, which sees contexts in their own units, with members and without; by
    nothing where the processor has no such products."""
    has = library.load()[1].vaerl_has_bfloat16()
    for members in (0, 3):
        own: Any = density(form, members)
        batch = [members] if members else []
        far = torch.full((3,), 1000.0), torch.ones(3)
        exact, rounded = own.fold(inputs=far), own.fold(inputs=far)
        rounded.matmul_precision = "bf16"
        context = 1000.0 + torch.randn(*batch, 300, 3)
        expected, found = drawn(exact, context), drawn(rounded, context)
        apart = (found - expected).abs() / expected.std()
        assert rounded._sampler._spec.half == has
        if not has:
            assert torch.equal(found, expected)
        else:  # 2^-9 for each factor, some products one behind the other
            assert 0.0 < apart.mean() < 0.02 and apart.quantile(0.99) < 0.1, apart.max()


@pytest.mark.parametrize("variant", library.VARIANTS)
def test_every_variant_gives_the_same(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that this processor can run."""
    if not library.runs_here(variant):
        pytest.skip(f"{variant} is not for this processor")
    monkeypatch.setenv("VAERL_NATIVE", variant)
    own, context = density("cvae"), torch.randn(50, 3)
    ours = own.fold()
    found = drawn(ours, context)
    assert ours._sampler is not None
    monkeypatch.setenv("VAERL_NATIVE", TORCH)
    torch.testing.assert_close(found, drawn(own.fold(), context), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(5, 7), (5, 1), (4, 5, 3), (3,), (2, 20, 3), (20, 3)])
def test_contexts_of_other_shapes_go_through_torch(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which broadcasts them or raises its own error; so does a wanted gradient."""
    for members in (0, 5):
        folded = density("cvae", members).fold()
        found: list[Any] = []
        for way in ("", TORCH):
            monkeypatch.setenv("VAERL_NATIVE", way)
            try:
                found.append(drawn(copy.deepcopy(folded), torch.ones(shape)))
            except (IndexError, RuntimeError) as error:
                found.append(type(error))
        assert type(found[0]) is type(found[1])
        if isinstance(found[0], Tensor):
            torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)
        else:
            assert found[0] is found[1]
    monkeypatch.setenv("VAERL_NATIVE", "")
    folded = density("cvae").fold()
    assert folded(torch.ones(2, 3, requires_grad=True)).requires_grad
    each = torch.vmap(folded, randomness="different")(torch.ones(4, 2, 3))
    assert each.shape == (4, 2, 2)


def test_what_it_does_not_cover_goes_through_torch() -> None:
    two_layers = make_density("cvae", context_dim=3, event_dim=2, latent_dims=(2, 2)).fold()
    doubles = density("cvae").double().fold()
    for folded, context in (
        (two_layers, torch.randn(5, 3)),
        (doubles, torch.randn(5, 3, dtype=torch.float64)),
    ):
        assert folded(context).shape == (5, 2)
        assert folded._sampler is None
