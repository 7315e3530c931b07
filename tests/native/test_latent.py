"""Bounds of a latent density by the native library are those of torch, with their gradients."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.logger import HumanOutputFormat, Logger
from torch import Tensor, nn

from tests.speed import in_plain_shell
from vaerl.agents import BC
from vaerl.data import Demonstrations
from vaerl.densities import make_density
from vaerl.densities.cvae import CVAE
from vaerl.dynamics.batched import batch_members
from vaerl.native.library import VARIANTS, runs_here
from vaerl.threads import limit_threads

UPDATES = 5
NATIVE, TORCH = os.environ.get("VAERL_NATIVE", ""), "0"
"""Values of VAERL_NATIVE."""
ODD = {"hidden": 10, "latent_dims": (3,), "prior_components": 5, "k": 3}
FORMS: dict[str, tuple[int, int, int, dict[str, Any], float]] = {
    # context, event, rows, options, weight of the KL
    "default": (17, 6, 48, {}, 1.0),
    "chunk": (9, 16, 50, {"latent_dims": (4,), "k": 4, "context_hidden": ()}, 1.0),
    "odd sizes, warm-up": (3, 5, 37, ODD, 0.3),
    "standard prior, no block": (3, 2, 5, {"prior": "standard", "blocks": 0, "k": 20}, 1.0),
    "normal prior": (3, 2, 17, {"prior": "gaussian"}, 1.0),
    "equal weights": (3, 2, 17, {"prior_weights": "equal"}, 1.0),
    "elbo": (3, 2, 17, {"objective": "elbo"}, 1.0),
    "mean of ELBOs": (3, 2, 17, {"objective": "vae-k"}, 0.5),
    **{
        name: (3, 2, 17, {"encoder_gradient": name, "k": 6}, 1.0)
        for name in ("stl", "total", "wake")
    },
}  # fmt: skip


def fitted(form: str, way: str, monkeypatch: Any, members: int = 0, mean: bool = True) -> Any:
    """Losses, diagnostics and gradients of some updates of one density."""
    monkeypatch.setenv("VAERL_NATIVE", way)
    context_dim, event_dim, rows, options, weight = FORMS[form]
    torch.manual_seed(0)
    made = [
        make_density("cvae", context_dim=context_dim, event_dim=event_dim, **options)
        for _ in range(members or 1)
    ]
    density: Any = batch_members(made) if members else made[0]
    optimizer, found = torch.optim.Adam(density.parameters()), []
    batch, generator = (*([members] if members else []), rows), torch.Generator().manual_seed(1)
    for _ in range(UPDATES):
        context, x, shares = (
            torch.randn((*batch, *size), generator=generator)
            for size in ((context_dim,), (event_dim,), ())
        )
        losses, info = density.loss(
            context, x, diagnostics=False, kl_weight=weight, generator=generator
        )
        assert ("_BoundBackward" in names_of(losses)) == (way != TORCH)
        optimizer.zero_grad()
        (losses.mean(-1).sum() if mean else (losses * shares).sum()).backward()
        gradients = {n: p.grad.clone() for n, p in density.named_parameters() if p.grad is not None}
        found.append((losses.detach(), info, gradients))
        optimizer.step()
    return found


def names_of(tensor: Tensor) -> set[str]:
    """Names of the operations behind a tensor."""
    names, waiting = set(), [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None:
            names.add(node.name())
            waiting += [parent for parent, _ in node.next_functions]
    return names


def assert_alike(ours: Any, theirs: Any) -> None:
    """Losses to 1e-5, gradients to 1e-4 of their length.

    Single rows to 1e-4: where a gradient is tiny, Adam makes rounding a part of its step.
    """
    for (loss, info, gradients), (other_loss, other_info, others) in zip(ours, theirs, strict=True):
        torch.testing.assert_close(loss.mean(), other_loss.mean(), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(loss, other_loss, rtol=1e-4, atol=1e-4)
        assert info.keys() == other_info.keys()
        for name, number in other_info.items():
            torch.testing.assert_close(info[name], number, rtol=1e-5, atol=1e-5, msg=name)
        assert gradients.keys() >= others.keys()
        for name, gradient in gradients.items():
            other = others.get(name, torch.zeros_like(gradient))
            assert (gradient - other).norm() <= 1e-4 * other.norm() + 1e-8, name


@pytest.mark.parametrize("form", FORMS)
def test_the_bound_is_the_one_in_torch(form: str, monkeypatch: Any) -> None:
    """Over five updates, for every covered form and odd sizes, on two threads."""
    with limit_threads(2):
        both = [fitted(form, way, monkeypatch) for way in (NATIVE, TORCH)]
    assert_alike(*both)


@pytest.mark.parametrize("mean", [True, False])
def test_members_and_shares_of_rows(mean: bool, monkeypatch: Any) -> None:
    """Several members beside each other, and rows that count differently."""
    both = [fitted("odd sizes, warm-up", way, monkeypatch, 3, mean) for way in (NATIVE, TORCH)]
    assert_alike(*both)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_gives_the_same(variant: str, monkeypatch: Any) -> None:
    """Those that this processor can run, with their own number of lanes."""
    if not runs_here(variant):
        pytest.skip(f"{variant} is not for this processor")
    monkeypatch.setenv("VAERL_NATIVE", variant)
    assert made().chain.conditioned(torch.zeros(5, 3), torch.zeros(5, 2), 4) is not None
    assert_alike(*(fitted("odd sizes, warm-up", way, monkeypatch) for way in (variant, TORCH)))


def made(**options: Any) -> CVAE:
    torch.manual_seed(0)
    density = make_density(
        "cvae", context_dim=3, event_dim=2, **({"prior_weights": "equal"} | options)
    )
    assert isinstance(density, CVAE)
    return density


@pytest.mark.parametrize("options", [{}, ODD, {"prior": "standard"}])
def test_the_density_of_fixed_codes_is_the_one_in_torch(
    options: dict[str, Any], monkeypatch: Any
) -> None:
    """With rows that count differently, as in PPO."""
    density, found = made(**options), []
    codes, context, x, shares = (
        density.draw_codes(20, 0),
        *map(torch.randn, ((37, 3), (37, 2), (37,))),
    )
    for way in (NATIVE, TORCH):
        monkeypatch.setenv("VAERL_NATIVE", way)
        log_prob = density.freeze(codes)(context).log_prob(x)
        assert ("_BoundBackward" in names_of(log_prob)) == (way != TORCH)
        density.zero_grad()
        (log_prob * shares).sum().backward()
        kept = {n: p.grad for n, p in density.named_parameters() if p.grad is not None}
        found.append([(log_prob.detach(), {}, kept)])
    assert_alike(*found)


class Waves(nn.Module):
    """An embedding that the library does not know."""

    def forward(self, context: Tensor) -> Tensor:
        return torch.cat((context.sin(), context.cos()), dim=-1)[..., :3]


@pytest.mark.parametrize("embedding", ["plain", "other"])
@pytest.mark.parametrize("members", [0, 2])
def test_the_gradient_reaches_what_the_context_comes_from(
    embedding: str, members: int, monkeypatch: Any
) -> None:
    """As the trunk of a policy, through both embeddings, or from one that torch computes."""
    batch, found = [members] if members else [], []
    context, x = torch.randn(*batch, 70, 3), torch.randn(*batch, 70, 2)
    for way in (NATIVE, TORCH):
        monkeypatch.setenv("VAERL_NATIVE", way)
        own = made(context_hidden=(9,) if embedding == "plain" else ())
        if embedding == "other":
            own.chain.generative_context = Waves()
        density: Any = batch_members([own] * members) if members else own
        seen = context.clone().requires_grad_()
        losses, _ = density.loss(
            seen, x, diagnostics=False, generator=torch.Generator().manual_seed(1)
        )
        assert ("_BoundBackward" in names_of(losses)) == (way != TORCH)
        losses.mean(-1).sum().backward()
        found.append(seen.grad)
    assert (found[0] - found[1]).norm() <= 1e-4 * found[1].norm()


def test_what_is_not_covered_goes_through_torch() -> None:
    """Two layers, float64, a gradient in x, hooks; other calls go on as before."""
    context, x = torch.randn(5, 3), torch.randn(5, 2)
    density = made()
    assert density.chain.conditioned(context, x, 4) is not None
    assert made(latent_dims=(2, 2)).chain.conditioned(context, x, 4) is None
    assert density.chain.conditioned(context, x.clone().requires_grad_(), 4) is None
    assert density.chain.conditioned(context, x, 1000) is None
    assert made().double().chain.conditioned(context.double(), x.double(), 4) is None
    calls: list[int] = []
    layer: Any = density.chain.generative[0]
    for hooked in (layer.net.leave, density.chain.recognition_context, density.chain.prior):
        handle = hooked.register_forward_hook(lambda *_: calls.append(1))
        density.loss(context, x)
        assert calls
        calls.clear()
        handle.remove()
    assert density.chain.conditioned(context, x, 4) is not None
    assert made(prior_weights="learned").chain.conditioned(context, x, 4, torch.rand(4, 4)) is None


def test_what_would_be_wrong_is_refused() -> None:
    """Second derivatives, and the gradient at events that have changed since."""
    density, x = made(), torch.randn(9, 2)
    seen = torch.randn(9, 3, requires_grad=True)
    loss = density.loss(seen, x)[0].mean()
    with pytest.raises(RuntimeError, match="create_graph: got True, expected False"):
        torch.autograd.grad(loss, seen, create_graph=True)
    loss = (density.loss(seen, x)[0] * torch.rand(9)).sum()
    x.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("part", ["prior", "generative", "recognition", "generative_context"])
def test_a_parameter_that_is_not_a_number_gives_no_number(part: str) -> None:
    density = made(prior_weights="learned")
    parameter = next(getattr(density.chain, part).parameters())
    with torch.no_grad():
        parameter.view(-1)[0] = torch.nan
    assert not torch.isfinite(density.loss(torch.randn(9, 3), torch.randn(9, 2))[0]).all()


def test_autocast_leaves_the_native_way_as_it_is() -> None:
    density, context, x = made(), torch.randn(9, 3), torch.randn(9, 2)
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled):
            loss = density.loss(context, x, generator=torch.Generator().manual_seed(0))[0].mean()
        loss.backward()
        found.append(loss.detach())
    assert torch.equal(*found)


def test_the_log_says_which_way_is_taken(monkeypatch: Any, tmp_path: Path) -> None:
    """Once a training; the weights follow either way to the same place."""
    data = Demonstrations.from_arrays([np.zeros((9, 3))], [np.zeros((8, 1))])
    for way, wanted in ((NATIVE, "fit: native"), (TORCH, "fit: torch, the native one is missing")):
        monkeypatch.setenv("VAERL_NATIVE", way)
        agent, path = BC("cvae", data=data, chunk=2), tmp_path / f"log{way[-1:]}.txt"
        agent.set_logger(Logger(None, [HumanOutputFormat(str(path))]))
        agent.learn(2)
        assert wanted in path.read_text()


def test_a_graph_that_is_kept_gives_its_gradient_again() -> None:
    """And frozen parameters get none."""
    density = made()
    frozen = nn.utils.parameters_to_vector(density.chain.prior.parameters())
    density.chain.prior.requires_grad_(False)
    loss = density.loss(torch.randn(5, 3), torch.randn(5, 2))[0].mean()
    loss.backward(retain_graph=True)
    once = [p.grad.clone() for p in density.parameters() if p.grad is not None]
    loss.backward()
    twice = [p.grad for p in density.parameters() if p.grad is not None]
    for one, two in zip(once, twice, strict=True):
        torch.testing.assert_close(2 * one, two, rtol=1e-5, atol=1e-7)
    assert torch.equal(frozen, nn.utils.parameters_to_vector(density.chain.prior.parameters()))
    assert all(p.grad is None for p in density.chain.prior.parameters())


def test_it_is_faster_than_torch() -> None:
    """In a plain shell, with default options."""
    (ratio,) = in_plain_shell(SPEED)
    assert ratio > 1.5


SPEED = """
import os
import torch
from tests.speed import speedup
from vaerl.densities import make_density
from vaerl.threads import limit_threads

density = make_density("cvae", context_dim=17, event_dim=6)
context, x = torch.randn(256, 17), torch.randn(256, 6)

def update(native):
    os.environ["VAERL_NATIVE"] = native
    density.loss(context, x, diagnostics=False)[0].mean().backward()

with limit_threads():
    print(speedup(lambda: update("0"), lambda: update(""), enough=1.7))
"""
