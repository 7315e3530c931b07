"""The temperature α: its loss, its schedules, target entropies, and the part of SAC that has it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from stable_baselines3 import SAC as SB3SAC
from stable_baselines3.common.preprocessing import get_action_dim
from torch import Tensor

from vaerl.densities.options import check_flag


def temperature_loss(
    log_alpha: Tensor, log_prob: Tensor, target_entropy: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """−mean_B log α (log π(a | s) + H̄): α rises where the entropy lies below the target H̄."""
    loss = -(log_alpha * (log_prob.detach() + target_entropy).mean()).sum()
    return loss, {"ent_coef_loss": loss.detach()}


@dataclass(frozen=True)
class Annealed:
    """α falls geometrically from `start` to `end` between two shares of training.

    At a high α the target density is nearly flat, so the policy finds every mode before it has to
    choose.

    Args:
        start, end: first and last α.
        fraction: share of training after which α stays at `end`.
        begin: share of training until which α stays at `start`; below `fraction`.

    >>> Annealed.parse("anneal_10_1")(progress_remaining=0.75)
    3.1622776601683795
    """

    start: float
    end: float
    fraction: float = 0.5
    begin: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Annealed:
        """Parse "anneal_START_END[_FRACTION[_BEGIN]]"; raise ValueError if it is malformed."""
        parts = text.split("_")[1:]
        try:
            numbers = [float(part) for part in parts]
        except ValueError:
            numbers = []
        made = cls(*numbers) if len(numbers) in (2, 3, 4) and text.startswith("anneal_") else None
        if made is None or not (
            0.0 < made.start < math.inf
            and 0.0 < made.end < math.inf
            and 0.0 <= made.begin < made.fraction <= 1.0
        ):
            raise _wrong(text)
        return made

    def __call__(self, progress_remaining: float) -> float:
        """α at the remaining share of training, 1 at the start and 0 at the end."""
        over = 1.0 - progress_remaining - self.begin
        done = min(1.0, max(0.0, over) / (self.fraction - self.begin))
        return self.start * (self.end / self.start) ** done


def annealing(value: Any) -> Annealed | None:
    """The schedule in `ent_coef`, or None for SB3's values: a number, "auto" or "auto_START".

    Raises ValueError for anything else.

    >>> annealing(0.1), annealing("auto_0.1"), annealing("anneal_10_1")
    (None, None, Annealed(start=10.0, end=1.0, fraction=0.5, begin=0.0))
    """
    number = _number(value)
    if number is not None and number >= 0.0:
        return None
    if number is not None or not isinstance(value, str):
        raise _wrong(value)
    head, _, start = value.partition("_")
    learned = head == "auto" and (value == "auto" or (_number(start) or 0.0) > 0.0)
    return None if learned else Annealed.parse(value)


def _wrong(value: Any) -> ValueError:
    return ValueError(
        f"ent_coef: got {value!r}, expected a positive number, 0, 'auto', 'auto_START' or "
        "'anneal_START_END[_FRACTION[_BEGIN]]' with positive numbers and shares with "
        "0 <= BEGIN < FRACTION <= 1"
    )


def entropy_target(value: Any, action_dim: int) -> float:
    """Target entropy in nats for X action dimensions: a number, "auto", "modes_M" or "-C|A|/D".

    "auto": H̄ = −X, the entropy of a Gaussian with σ = .089 on each axis. "modes_M": H̄ = −X + log M,
    as M such Gaussians far apart have log M more. "-C|A|/D": H̄ = −C X / D, where C and D are 1
    unless given: XQC has "-|A|/2", FlashSAC "-.48|A|", a Gaussian with σ = .15.

    >>> entropy_target("-3", 2), round(entropy_target("modes_4", 2), 3)
    (-3.0, -0.614)
    >>> entropy_target("-|A|/2", 6), entropy_target("-.48|A|", 2)
    (-3.0, -0.96)
    """
    number = _number(value)
    if number is not None:
        return number
    words = value if isinstance(value, str) else ""
    words = "-|A|" if words == "auto" else words
    share = re.fullmatch(r"-(\d*\.?\d+)?\|A\|(?:/([1-9]\d*))?", words)
    if share is not None:
        return -float(share[1] or 1) * action_dim / float(share[2] or 1)
    match = re.fullmatch(r"modes_([1-9]\d*)", words)
    if match is None:
        raise ValueError(
            f"target_entropy: got {value!r}, expected a number, 'auto', 'modes_M' for M modes or a "
            "share of the action dimensions such as '-|A|/2' or '-.48|A|'"
        )
    return -float(action_dim) + math.log(int(match[1]))


def _number(value: Any) -> float | None:
    """The finite number that a value or a text is, or None."""
    if isinstance(value, bool) or not isinstance(value, Real | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


class Tempered(SB3SAC):
    """Mixin of SAC: α is a number, learned, or annealed, and entropy absolute or relative."""

    relative_entropy: bool
    _annealed: Annealed | None

    def _setup_model(self) -> None:
        check_flag("relative_entropy", self.relative_entropy)
        given, self._annealed = self.ent_coef, annealing(self.ent_coef)
        self.target_entropy = entropy_target(self.target_entropy, get_action_dim(self.action_space))
        if self._annealed is not None:
            self.ent_coef = self._annealed.start
        super()._setup_model()
        self.ent_coef = given

    @property
    def _uniform_entropy(self) -> float:
        """Nats of the uniform law over the scaled box, where entropy is measured against it."""
        return get_action_dim(self.action_space) * math.log(2.0) if self.relative_entropy else 0.0

    def _alpha(self) -> Tensor:
        """The temperature α now."""
        if self._annealed is not None:
            now = self._annealed(self._current_progress_remaining)
            self.ent_coef_tensor = torch.tensor(now, device=self.device)
        if self.ent_coef_optimizer is None or self.log_ent_coef is None:
            return self.ent_coef_tensor
        return torch.exp(self.log_ent_coef.detach())

    def _move_temperature(self, log_prob: Tensor) -> dict[str, Tensor]:
        """A step of α where it is learned."""
        if self.ent_coef_optimizer is None or self.log_ent_coef is None:
            return {}
        loss, info = temperature_loss(self.log_ent_coef, log_prob, float(self.target_entropy))
        self.ent_coef_optimizer.zero_grad()
        loss.backward()
        self.ent_coef_optimizer.step()
        return info

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_annealed"]
