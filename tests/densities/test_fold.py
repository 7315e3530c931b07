"""The fast form of a density: it gives what the modules give, and it is faster."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.speed import in_plain_shell
from vaerl.densities import ConditionalDensity, density_names, make_density
from vaerl.densities.base import Folded
from vaerl.dynamics.batched import batch_members
from vaerl.nets import FILM_SCALE

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gaussian": ("gaussian", {}),
    "linear gaussian": ("gaussian", {"mean": "linear"}),
    "one sigma": ("gaussian", {"variance": "state-independent"}),
    "mixture": ("mixture", {"components": 5}),
    "equal mixture": ("mixture", {"weights": "equal", "hidden": ()}),
    "cvae": ("cvae", {}),
    "equal prior": ("cvae", {"prior_weights": "equal", "context_hidden": (), "blocks": 1}),
    "two layers": ("cvae", {"latent_dims": (3, 2), "blocks": 3}),
    "two layers, gaussian prior": ("cvae", {"latent_dims": (2, 3), "prior": "gaussian"}),
    "imle": ("imle", {}),
    "standard prior": ("cvae", {"prior": "standard", "blocks": 0}),
    "two layers, standard prior": ("cvae", {"latent_dims": (2, 1), "prior": "standard"}),
}
TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}
"""In float64: some twenty products of at most 64 terms of about 1 each round by 20·64·2e-16 =
3e-13, and log σ ≥ −7 magnifies a mean's error by at most e⁷ in a log-density: 3e-10."""


def density(case: str, seed: int = 0, **more: Any) -> ConditionalDensity:
    """One whose weights are far from those at the start."""
    name, options = CASES[case]
    torch.manual_seed(seed)
    built = make_density(name, context_dim=4, event_dim=2, **{**options, **more})
    with torch.no_grad():
        for parameter in built.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return built.double()


def contexts(*batch: int) -> torch.Tensor:
    return torch.randn(*batch, 4, dtype=torch.float64, generator=seeded(1))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fold(built: ConditionalDensity, *args: Any) -> Folded:
    folded = built.fold(*args)
    assert folded is not None
    return folded


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_draws_modes_and_values_are_those_of_the_modules(case: str, squash: bool) -> None:
    """Same noise in, same numbers out; the value is the density, or its mixture over codes."""
    built = density(case, squash=squash)
    folded, context = fold(built), contexts(50)
    with torch.no_grad():
        slow = built(context).sample((), seeded(2))
        torch.testing.assert_close(folded(context, seeded(2)), slow, **TOLERANCE)
        torch.testing.assert_close(folded.mode(context, 16), built(context).mode(16), **TOLERANCE)
        codes = built.draw_codes(9, seed=3).double() if built.code_dim else None
        law = built(context) if codes is None else built.freeze(codes)(context)
        value = folded.value(context, codes)
        torch.testing.assert_close(value.log_prob(slow), law.log_prob(slow), **TOLERANCE)
        torch.testing.assert_close(
            value.sample((3,), seeded(4)), law.sample((3,), seeded(4)), **TOLERANCE
        )


def test_scales_end_where_those_of_the_modules_do() -> None:
    """Far out, where a context of 1e4 would bend the layers by as much."""
    built = density("two layers")
    context, generators = 1e4 * contexts(50), (seeded(2), seeded(2))
    with torch.no_grad():
        slow = built(context).sample((), generators[0])
        torch.testing.assert_close(
            fold(built)(context, generators[1]),
            slow,
            rtol=1e-9,
            atol=1e-9 * slow.abs().max().item(),
        )
        embed, film = built.chain.generative_context, built.chain.generative[0].net.film
        sizes = [film(embed(each)).abs().max().item() for each in (contexts(50), context)]
    assert sizes[0] < FILM_SCALE < sizes[1]


@pytest.mark.parametrize("case", CASES)
def test_members_and_units_are_folded_in(case: str) -> None:
    """Batched members, raw contexts in, events in their own units out."""
    batched: Any = batch_members([density(case, seed) for seed in range(3)])
    shift, scale = contexts(1)[0], contexts(1)[0].exp()
    mean, spread = torch.tensor([2.0, -1.0]).double(), torch.tensor([0.1, 30.0]).double()
    raw = 3.0 * contexts(3, 40)
    with torch.no_grad():
        slow = mean + spread * batched((raw - shift) / scale).sample((), seeded(2))
        found = fold(batched, (shift, scale), (mean, spread))(raw, seeded(2))
    torch.testing.assert_close(found, slow, **TOLERANCE)


def test_a_fold_is_a_snapshot() -> None:
    built = density("cvae")
    folded = fold(built)
    before = folded(contexts(5), seeded(0))
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.mul_(1.1)
    assert torch.equal(folded(contexts(5), seeded(0)), before)
    assert not torch.equal(fold(built)(contexts(5), seeded(0)), before)


def test_densities_without_a_fast_form_say_so() -> None:
    """Whole numbers, a fixed σ, another network over the context, and units of a squashed event."""
    sizes = {"context_dim": 4, "event_dim": 2}
    for name in ("gaussian", "mixture", "cvae"):
        assert make_density(name, **sizes, whole=True).fold() is None
    assert make_density("gaussian", **sizes, variance="fixed").fold() is None
    assert make_density("flow", **sizes).fold() is None
    built: Any = density("mixture")
    built.trunk = torch.nn.Sequential(torch.nn.LayerNorm(4), *built.trunk)
    assert built.fold() is None
    units = (torch.zeros(2), torch.ones(2))
    assert density("cvae", squash=True).fold(None, units) is None


SPEED = """
import sys, torch
from tests.speed import speedup
from vaerl import make_density
density = make_density(sys.argv[1], context_dim=8, event_dim=2, squash=True)
folded, generator = density.fold(), torch.Generator()
with torch.no_grad():
    for rows in (1, 16):
        context = torch.randn(rows, 8)
        print(speedup(
            lambda: density(context).sample((), generator), lambda: folded(context, generator)
        ))
        print(speedup(lambda: density(context).mode(), lambda: folded.mode(context)))
"""


@pytest.mark.parametrize("name", [name for name in density_names() if name != "flow"])
def test_it_is_faster_than_the_modules_in_a_plain_shell(name: str) -> None:
    """Draws and modes of 1 and 16 rows; draws take a third of the time, modes half."""
    ratios = in_plain_shell(SPEED, name)
    assert len(ratios) == 4 and min(ratios) > 1.1, ratios
