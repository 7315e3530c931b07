"""How the actor follows the critic: the reverse step, the forward step, or both.

The reverse step of SAC minimises KL(π ‖ exp(Q/α)/Z) along the slope of Q. It is sharp, but it does
not find a mode again that the policy has left. The forward step weighs candidate actions by
exp(Q/α) and fits the policy to draws among them by maximum likelihood,
−E_{a ~ exp(Q/α)/Z} log π(a | s), which penalises every mode that is not covered. Taking the forward
step throughout and adding the reverse step later keeps the modes and sharpens them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from vaerl.bounds import effective_sample_size
from vaerl.densities import ConditionalDensity, ConditionalValue
from vaerl.densities.options import (
    check_above_zero,
    check_choice,
    check_positive,
    check_share,
)
from vaerl.names import did_you_mean

Info = dict[str, Tensor]
KINDS = ("reverse", "forward", "both")
LOW_DIMENSIONAL = 3
"""Largest number of action dimensions for which uniform candidates help."""


@dataclass(frozen=True)
class Improvement:
    """The actor's improvement step and its settings.

    Args:
        kind: "reverse", "forward" or "both" (forward throughout, reverse from `reverse_start` on).
        candidates: number n of actions that the forward step weighs for each state.
        uniform_share: share of the candidates drawn uniformly over the box. The default None means
            a quarter up to 3 action dimensions and 0 above, where uniform draws hit nothing.
        auxiliary: number k of latent paths in the bounds on the candidates' log π.
        reverse_start: share of training after which "both" adds the reverse step.
        reverse_weight: weight of the reverse step's loss; the forward step has weight 1.
        forward_end: share of training after which "both" drops the forward step. With equal mixture
            weights the reverse step cannot move mass between distant modes, so their balance
            survives while the temperature falls.
    """

    kind: str = "reverse"
    candidates: int = 16
    uniform_share: float | None = None
    auxiliary: int = 4
    reverse_start: float = 0.5
    reverse_weight: float = 1.0
    forward_end: float = 1.0

    def __post_init__(self) -> None:
        check_choice("improvement", self.kind, KINDS)
        check_positive("candidates", self.candidates, at_least=2)
        check_positive("auxiliary", self.auxiliary)
        check_share("reverse_start", self.reverse_start)
        check_share("forward_end", self.forward_end)
        if self.kind != "both" and self.forward_end != 1.0:
            raise ValueError(
                f"forward_end: got {self.forward_end!r} with improvement {self.kind!r}, expected "
                "1.0: only 'both' can end the forward step"
            )
        if self.kind == "both" and self.forward_end < self.reverse_start:
            raise ValueError(
                f"forward_end: got {self.forward_end!r}, expected at least reverse_start "
                f"({self.reverse_start!r}): between the two nothing would train the policy"
            )
        if self.uniform_share is not None:
            check_share("uniform_share", self.uniform_share)
        check_above_zero("reverse_weight", self.reverse_weight)

    @property
    def fits(self) -> bool:
        """Whether this kind uses the forward step."""
        return self.kind != "reverse"

    def forward(self, progress_remaining: float) -> bool:
        """Whether to take the forward step at this remaining share of training."""
        ended = self.kind == "both" and 1.0 - progress_remaining > self.forward_end
        return self.fits and not ended

    def reverse(self, progress_remaining: float) -> bool:
        """Whether to take the reverse step at this remaining share of training."""
        started = 1.0 - progress_remaining >= self.reverse_start
        return self.kind == "reverse" or (self.kind == "both" and started)

    def forward_loss(
        self,
        density: ConditionalDensity,
        context: Tensor,
        q: Callable[[Tensor], Tensor],
        alpha: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Info]:
        """Mean negative bound on log π(a | s) at one a ~ exp(Q/α)/Z per state; 0-d, in nats.

        Args:
            density: π over (−1, 1)^X; context: at the states ``(B, C)``.
            q: actions ``(n, B, X)`` to their values ``(n, B)``; alpha: temperature.

        The dict holds forward_nll (the loss) and forward_ess (effective share of the candidates).
        """
        share = self.uniform_share
        if share is None:
            share = 0.25 if density.event_dim <= LOW_DIMENSIONAL else 0.0
        with torch.no_grad():
            value = density(context)
            actions, log_r = propose(value, self.candidates, share, self.auxiliary, generator)
            log_w = q(actions) / alpha - log_r
            chosen = resample(actions, log_w, generator)
            ess = effective_sample_size(log_w).mean() / self.candidates
        nll, _ = density.loss(context, chosen, diagnostics=False, generator=generator)
        loss = nll.mean()
        return loss, {"forward_nll": loss.detach(), "forward_ess": ess}


def make_improvement(kind: str, settings: Mapping[str, Any]) -> Improvement:
    """Build the step from its name and settings; raise ValueError for an unknown setting."""
    known = [field.name for field in fields(Improvement) if field.name != "kind"]
    for name in settings:
        if name not in known:
            raise ValueError(f"improvement_kwargs: got {name!r}, {did_you_mean(name, known)}")
    return Improvement(kind, **settings)


def propose(
    value: ConditionalValue,
    count: int,
    uniform_share: float,
    k: int,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Candidates ``(n, B, X)`` from (1−u) π + u U(−1, 1)^X, and their log-density ``(n, B)``.

    The shares are exact (stratified), and each candidate is weighed against the whole mixture
    (balance heuristic, Veach & Guibas 1995). For a latent density log π is the upper bound at draws
    from π and the lower bound at uniform ones.
    """
    uniform_count = round(count * uniform_share)
    own_count = count - uniform_count
    dims, batch = value.event_dim, tuple(value.batch_shape)
    parts: list[tuple[Tensor, Tensor]] = []
    if own_count:
        parts.append(value.rsample_and_log_prob(k, (own_count,), generator))
    if uniform_count:
        like = parts[0][0] if parts else torch.empty(0, dtype=value.dtype)
        draws = torch.rand(
            (uniform_count, *batch, dims),
            dtype=like.dtype,
            device=like.device,
            generator=generator,
        )
        uniform = 2.0 * draws - 1.0
        parts.append((uniform, value.log_prob_bounds(uniform, k, generator=generator).lower))
    actions = torch.cat([a for a, _ in parts])
    log_pi = torch.cat([p for _, p in parts])
    if not uniform_count:
        return actions, log_pi
    share = uniform_count / count
    log_uniform = torch.full_like(log_pi, math.log(share) - dims * math.log(2.0))
    if not own_count:
        return actions, log_uniform
    return actions, torch.logaddexp(log_pi + math.log1p(-share), log_uniform)


def resample(actions: Tensor, log_w: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw one of the candidates ``(n, B, X)`` for each state by its weight: ``(B, X)``."""
    assert actions.shape[:-1] == log_w.shape, (actions.shape, log_w.shape)
    weights = torch.softmax(log_w, dim=0).movedim(0, -1)
    index = torch.multinomial(weights, 1, generator=generator).movedim(-1, 0)
    return actions.gather(0, index.unsqueeze(-1).expand(1, *actions.shape[1:])).squeeze(0)
