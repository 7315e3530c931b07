"""A model's predictions of next states, compared with outcomes or with the true law.

Everything here works on samples, so all densities are treated alike; results are estimates unless
stated otherwise. Shapes: B pairs (s, a), S coordinates, n draws of each pair ``(n, B, S)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from vaerl.densities.base import check_matrix
from vaerl.densities.noise import check_generator
from vaerl.densities.options import check_positive, check_seed, check_share

if TYPE_CHECKING:
    from vaerl.dynamics.data import Transitions
    from vaerl.dynamics.model import DynamicsModel

ROWS = 1 << 16
"""Rows that go through a model at once."""
SCORED = 1024
"""Rows whose log-density is computed at once."""


class ModeScores(NamedTuple):
    """How a model's draws cover the modes of the true law, each ``(B,)``."""

    coverage: Tensor
    """Σ_m min(share of the draws at mode m, its true probability): 1 is perfect."""
    spurious: Tensor
    """Share of the draws where the true law has almost no mass; the truth itself has `level`."""


@torch.no_grad()
def predict(
    model: DynamicsModel,
    states: Tensor,
    actions: Tensor,
    count: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draws ``(count, B, S)`` of s' for pairs ``(B, S)``, ``(B, A)``, as roll-outs draw them.

    The draws of a pair go through all members in turn, and each takes a new episode code where the
    model has them.

    >>> from vaerl.dynamics import DynamicsModel
    >>> model = DynamicsModel(2, 1, density="gaussian", members=2)
    >>> predict(model, torch.zeros(5, 2), torch.zeros(5, 1), 3).shape
    torch.Size([3, 5, 2])
    """
    check_positive("count", count)
    model.check_rows(states, actions)
    at_once = max(1, ROWS // len(states))
    parts = [at_once] * (count // at_once) + ([count % at_once] if count % at_once else [])
    draws = []
    for n in parts:
        s, a = states.repeat_interleave(n, 0), actions.repeat_interleave(n, 0)
        after = model.step(s, a, generator).next_states
        draws.append(after.unflatten(0, (len(states), n)).transpose(0, 1))
    return torch.cat(draws)


@torch.no_grad()
def log_density(model: DynamicsModel, data: Transitions, k: int = 256, seed: int = 0) -> Tensor:
    """log p(Δs, r | s, a) of the ensemble, the mean law of its elites: ``(N,)`` in nats.

    In the units of the data; for a latent density a lower bound with k samples.

    Raises ValueError for data that does not fit the model, and for a code an episode, where only
    whole episodes have a density (`score`).
    """
    check_seed("seed", seed)
    data = model.check(data).to(model.elites.device)
    generator = torch.Generator(model.elites.device).manual_seed(seed)
    target = model.targets(data)
    found = []
    for start in range(0, len(data), SCORED):
        rows = slice(start, start + SCORED)
        value = model.member_values(data.states[rows], data.actions[rows])
        x = target[rows].expand(*value.batch_shape, -1)
        lower = value.log_prob_bounds(x, k, generator=generator).lower
        found.append(torch.logsumexp(lower, dim=0) - math.log(len(lower)))
    return torch.cat(found) - model.target_normaliser.log_scale()


def pit(draws: Tensor, outcomes: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Probability integral transform of outcomes ``(B, S)``, coordinate by coordinate, ``(B, S)``.

    u = (rank of the outcome among the n draws + U) / (n + 1) with U uniform and ties broken at
    random: exactly uniform on (0, 1) where outcome and draws follow one law, atoms or not
    (Gneiting, Balabdaoui & Raftery 2007). Values concentrated at 0 and 1 reveal an overconfident
    model, in the middle an underconfident one, on one side a biased one.

    Raises ValueError for draws that are not ``(n, B, S)``, or numbers that are not finite.

    >>> pit(torch.zeros(3, 1, 1), torch.ones(1, 1)).item() > 0.75
    True
    """
    check_generator("generator", generator)
    _check_tensors(draws=draws, outcomes=outcomes)
    if outcomes.ndim != 2 or draws.shape[1:] != outcomes.shape or not len(draws):
        raise ValueError(
            f"draws: got shape {tuple(draws.shape)} for outcomes {tuple(outcomes.shape)}, "
            "expected (n, B, S) with one draw or more for outcomes (B, S)"
        )
    check_matrix("draws", draws, draws.shape[-1])
    check_matrix("outcomes", outcomes, outcomes.shape[-1])
    below = (draws < outcomes).sum(0)
    ties = (draws == outcomes).sum(0) + 1
    u = torch.rand(outcomes.shape, generator=generator, device=outcomes.device)
    return (below + ties * u) / (len(draws) + 1)


def coverage(pit_values: Tensor, levels: Tensor | Sequence[float]) -> Tensor:
    """Share of outcomes inside the central interval of each of the L levels, ``(L,)``.

    For a calibrated model these are `levels`. Raises ValueError for numbers outside [0, 1].

    >>> coverage(torch.tensor([0.05, 0.4, 0.6, 0.9]), [0.5, 0.9])
    tensor([0.5000, 1.0000])
    """
    distance = 2.0 * (_check_shares("pit_values", pit_values) - 0.5).abs()
    wanted = _check_shares("levels", torch.as_tensor(levels)).to(distance)
    return (distance.unsqueeze(0) <= wanted.unsqueeze(1)).float().mean(1)


def calibration_error(pit_values: Tensor, bins: int = 20) -> float:
    """Mean distance between the sorted PIT values and a uniform law's, by quantiles: 0 is perfect.

    ∫ |F̂(u) − u| du, on `bins` points: the Wasserstein-1 distance to the uniform law, at most 0.5.
    Raises ValueError for values outside [0, 1].
    """
    check_positive("bins", bins)
    u = _check_shares("pit_values", pit_values).sort().values
    at = (torch.arange(bins, device=u.device) + 0.5) / bins
    below = torch.searchsorted(u, at.to(u)).float() / len(u)
    return float((below - at).abs().mean())


def _check_shares(argument: str, values: Tensor) -> Tensor:
    """Numbers in [0, 1] as one row, or raise one line."""
    _check_tensors(**{argument: values})
    flat = values.flatten()
    outside = flat[~((flat >= 0.0) & (flat <= 1.0))]
    if not len(flat) or len(outside):
        found = f"{outside[0].item():g}" if len(outside) else "none"
        raise ValueError(f"{argument}: got {found}, expected numbers in [0, 1]")
    return flat


def _check_tensors(**values: Any) -> None:
    """Raise one line unless all are tensors."""
    for name, value in values.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}: got {type(value).__name__}, expected a torch.Tensor")


def energy_distance(x: Tensor, y: Tensor) -> Tensor:
    """2 E‖X − Y‖ − E‖X − X'‖ − E‖Y − Y'‖ of draws ``(n, B, S)`` and ``(m, B, S)``: ``(B,)``.

    0 where both follow one law, else above; an unbiased estimate, so it may fall below 0. It needs
    no density (Székely & Rizzo 2013). In units of the coordinates: scale them first.

    Raises ValueError for fewer than two draws, or draws of other pairs or coordinates.
    """
    _check_tensors(x=x, y=y)
    if x.ndim != 3 or x.shape[1:] != y.shape[1:]:
        raise ValueError(
            f"x and y: got shapes {tuple(x.shape)} and {tuple(y.shape)}, expected (n, B, S) and "
            "(m, B, S) with the same B and S"
        )
    for name, draws in (("x", x), ("y", y)):
        if len(draws) < 2:
            raise ValueError(f"{name}: got {len(draws)}, expected at least 2 draws")
    x, y = x.transpose(0, 1), y.transpose(0, 1)
    return 2.0 * _distances(x, y).mean((1, 2)) - _within(x) - _within(y)


def _within(x: Tensor) -> Tensor:
    count = x.shape[1]
    return _distances(x, x).sum((1, 2)) / (count * (count - 1))


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """‖x − y‖ ``(B, n, m)``, not by products of matrices, which lose digits far from 0."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def mode_scores(
    draws: Tensor,
    truth: Tensor,
    log_prob: Callable[[Tensor], Tensor],
    centres: Tensor,
    weights: Tensor,
    level: float = 0.01,
    radius: float = math.inf,
) -> ModeScores:
    """Mode coverage and spurious mass of a model's draws, given the true law.

    A draw is spurious where log p is below the `level`-quantile of log p under the law itself,
    that is outside its highest-density region of mass 1 − level; the others belong to the nearest
    mode.

    Args:
        draws: the model's, ``(n, B, S)``.
        truth: draws of the law, ``(m, B, S)``, which determine its quantile.
        log_prob: the law's log-density, ``(…, B, S)`` → ``(…, B)``.
        centres, weights: of its modes, ``(B, K, S)`` and ``(B, K)``; weights sum to 1 or less, and
            the rest belongs to no mode (a uniform piece).
        radius: draws farther than this from every mode belong to none, spurious or not.

    >>> law = torch.distributions.Normal(0.0, 1.0)
    >>> x, y = torch.randn(2, 4000, 1, 1, generator=torch.Generator().manual_seed(0))
    >>> logp = lambda v: law.log_prob(v).sum(-1)
    >>> scores = mode_scores(x, y, logp, torch.zeros(1, 1, 1), torch.ones(1, 1))
    >>> round(scores.spurious.item(), 2), round(scores.coverage.item(), 2)
    (0.01, 0.99)
    """
    check_share("level", level)
    edge = torch.quantile(log_prob(truth), level, dim=0)
    inside = log_prob(draws) >= edge
    distance = (draws.unsqueeze(-2) - centres).norm(dim=-1)
    distance = distance.masked_fill(weights == 0.0, torch.inf)
    near, mode = distance.min(-1)
    nearest = torch.nn.functional.one_hot(mode, centres.shape[-2])
    share = (nearest * (inside & (near <= radius)).unsqueeze(-1)).float().mean(0)
    rest = 1.0 - weights.sum(-1)
    covered = torch.minimum(share, weights).sum(-1) + rest.clamp_min(0.0)
    return ModeScores(covered, 1.0 - inside.float().mean(0))


@torch.no_grad()
def roll_out(
    model: Any,
    state: Tensor,
    actions: Tensor,
    particles: int = 100,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Paths ``(T + 1, particles, S)`` from one state ``(S,)`` under fixed actions ``(T, …)``.

    `model` is any `vaerl.planning.Model`; it keeps its members and codes through the roll-out. Ends
    of episodes are ignored.

    >>> class Walk:
    ...     def step(self, states, actions, generator=None):
    ...         return states + actions
    >>> roll_out(Walk(), torch.zeros(1), torch.ones(2, 1), particles=1).flatten().tolist()
    [0.0, 1.0, 2.0]
    """
    from vaerl.planning.model import as_step, begin

    check_positive("particles", particles)
    _check_tensors(state=state, actions=actions)
    if actions.ndim == 0:
        raise ValueError("actions: got shape (), expected (T, …)")
    if state.ndim != 1:
        raise ValueError(f"state: got shape {tuple(state.shape)}, expected (S,)")
    check_matrix("state", state, len(state))
    if actions.is_floating_point():
        check_matrix("actions", actions, actions.shape[-1])
    at = state.repeat(particles, 1)
    moved = begin(model, particles, generator)
    path = [at]
    for action in actions:
        chosen = action.expand(particles, *action.shape)
        at = as_step(moved.step(at, chosen, generator)).next_states
        path.append(at)
    return torch.stack(path)
