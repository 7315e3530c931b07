"""Scores of a model's members on held-out transitions, and the parts of their spread.

Members are never compared by the squared error of their mean: on data with several outcomes, all
models with the right mean would tie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from vaerl.densities.noise import check_generator
from vaerl.densities.options import check_choice, check_positive, check_seed
from vaerl.dynamics.episodes import episode_scores
from vaerl.dynamics.heads import heads_loss

if TYPE_CHECKING:
    from vaerl.dynamics.data import Transitions
    from vaerl.dynamics.model import DynamicsModel

SCORES = ("nll", "energy")
ROWS = 1024
"""Transitions scored at once."""


class Spread(NamedTuple):
    """E‖X − X'‖ of the ensemble at each row ``(B,)`` in standardised units, in two parts."""

    aleatoric: Tensor
    """Mean of the members' own E‖X − X'‖: no amount of data reduces it."""
    epistemic: Tensor
    """Half the mean energy distance over all pairs of members: their disagreement."""


@torch.no_grad()
def score(
    model: DynamicsModel,
    data: Transitions,
    by: str = "nll",
    k: int = 64,
    seed: int = 0,
) -> Tensor:
    """The score of every member, ``(E,)``; lower is better.

    ``nll``: −mean log p(Δs, r, d | s, a) in nats and the units of the data; for a latent density
    −L_k with k samples, an upper bound on it; a regressed reward counts as a Gaussian of the
    deviation of all rewards around it. ``energy``: mean of E‖X − x‖ − ½ E‖X − X'‖ over k
    samples in standardised units, the energy distance to the data up to a constant (Gneiting &
    Raftery 2007); it is valid for laws with atoms, but scores what the density draws, (Δs, r) or
    Δs, and no heads. With a code for each episode, ``nll`` is of whole episodes, per step.

    All members see the same rows, and the same noise at every call (`seed`).

    Raises ValueError for data that does not fit the model, an unknown score, k < 2 with energy.
    """
    check_choice("by", by, SCORES)
    check_positive("k", k, at_least=2 if by == "energy" else 1)
    check_seed("seed", seed)
    device = model.elites.device
    data = model.check(data).to(device)
    generator = torch.Generator(device).manual_seed(seed)
    context, target = model.inputs(data.states, data.actions), model.targets(data)
    if model.latent == "episode" and by == "nll":
        return _episode_nll(model, context, target, data, k, generator)
    total = torch.zeros(model.members, dtype=torch.float64, device=device)
    for start in range(0, len(data), ROWS):
        rows = slice(start, start + ROWS)
        c = context[rows].expand(model.members, -1, -1)
        x = target[rows].expand(model.members, -1, -1)
        if by == "nll":
            values = _nll(model, c, x, data.rows(rows), k, generator)
        else:
            values = _energy(model, c, x, k, generator)
        total += values.sum(1)
    return (total / len(data)).float()


def _nll(
    model: DynamicsModel,
    context: Tensor,
    x: Tensor,
    data: Transitions,
    k: int,
    generator: torch.Generator,
) -> Tensor:
    networks: Any = model.networks
    lower = networks["density"](context).log_prob_bounds(x, k, generator=generator).lower
    return model.target_normaliser.log_scale() - lower + _heads_nll(model, context, x, data)


def _heads_nll(model: DynamicsModel, context: Tensor, x: Tensor, data: Transitions) -> Tensor:
    change = x[..., : model.change_dim]
    nll = heads_loss(model.networks, context, change, *model.head_targets(data))
    return nll + model.reward_normaliser.log_scale() if model.reward == "regressed" else nll


def _episode_nll(
    model: DynamicsModel,
    context: Tensor,
    x: Tensor,
    data: Transitions,
    k: int,
    generator: torch.Generator,
) -> Tensor:
    """−log p of whole episodes, ``(E,)`` per step."""
    networks: Any = model.networks
    assert data.episodes is not None, "check(data) comes first"
    c, e = (part.expand(model.members, -1, -1) for part in (context, x))
    nll = episode_scores(networks, c, e, data.episodes, k, generator) / len(data)
    nll = nll + model.target_normaliser.log_scale()
    return (nll + _heads_nll(model, c, e, data).mean(1)).float()


def _energy(
    model: DynamicsModel, context: Tensor, x: Tensor, k: int, generator: torch.Generator
) -> Tensor:
    networks: Any = model.networks
    draws = model.sample_events(networks, context, k, generator)
    to_data = (draws - x).norm(dim=-1).mean(0)
    return to_data - 0.5 * (draws - draws.roll(1, 0)).norm(dim=-1).mean(0)


def check_deviation(argument: str, model: DynamicsModel) -> None:
    """Raise one line for a model whose `deviation` would be a step's noise, or 0 everywhere."""
    density: Any = model.networks["density"]
    if model.whole:
        raise ValueError(
            f"{argument}: got a density with whole=True, expected one with a mean: whole numbers "
            "have none in closed form"
        )
    if density.sample_mean_kind == "sample":
        raise ValueError(
            f"{argument}: got density {model.density_name!r}, whose deviation would be all its "
            "noise, expected one with a mean given its latents"
        )
    if density.sample_mean_kind == "mean" and len(model.elites) == 1:
        raise ValueError(
            f"{argument}: got one elite of density {model.density_name!r}, which deviates from "
            "nothing, expected 2 or more, or a density with latents"
        )


@torch.no_grad()
def deviation(
    model: DynamicsModel,
    states: Tensor,
    actions: Tensor,
    draws: int = 4,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Standard deviation of the predicted (Δs, r) over elites and latents ``(B,)``.

    That of E[(Δs, r) | z, member] in standardised units, without a regressed r, estimated with
    `draws` latents z of every elite, and averaged over coordinates (WIMLE, 2026). The noise of a
    latent's own law does not count, but all that differs between latents does, and so between a
    mixture's components: a law that explains noise by its latents deviates by that noise, whatever
    the data. Without latents only the disagreement of the elites is left.

    Raises ValueError for a density that has no such mean (a flow: its latents are all its noise),
    and for one elite of a density without latents, where this is 0.
    """
    check_positive("draws", draws)
    check_generator("generator", generator)
    check_deviation("model", model)
    means = model.member_values(states, actions).sample_mean((draws,), generator)
    return means.std((0, 1), correction=0).mean(-1)


@torch.no_grad()
def spread(
    model: DynamicsModel,
    states: Tensor,
    actions: Tensor,
    samples: int = 32,
    generator: torch.Generator | None = None,
) -> Spread:
    """The spread of (Δs, r), split into a part within the members and a part between them.

    With X_i from elite i of n: E‖X − X'‖ of the whole ensemble is (1/n) Σ_i E‖X_i − X_i'‖ +
    (1/2n²) Σ_ij D(i, j), with the energy distance D(i, j) = 2E‖X_i − X_j‖ − E‖X_i − X_i'‖ −
    E‖X_j − X_j'‖ ≥ 0, whatever the laws look like. Both are unbiased estimates, so the second can
    come out slightly below 0.

    Args:
        states, actions: B rows.
        samples: draws of every member; all pairs are compared.
    """
    check_positive("samples", samples, at_least=2)
    check_generator("generator", generator)
    draws = model.member_samples(states, actions, samples, generator)
    points = draws.permute(2, 1, 0, 3)  # (B, n, samples, X)
    count = points.shape[1]
    flat = points.flatten(1, 2)
    distance = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
    blocks = distance.unflatten(2, (count, samples)).unflatten(1, (count, samples))
    sums = blocks.sum((2, 4))  # (B, n, n)
    within = sums.diagonal(dim1=1, dim2=2) / (samples * (samples - 1))
    between = (sums.sum((1, 2)) - sums.diagonal(dim1=1, dim2=2).sum(1)) / samples**2
    aleatoric = within.mean(1)
    total = (between + within.sum(1)) / count**2
    return Spread(aleatoric, total - aleatoric)
