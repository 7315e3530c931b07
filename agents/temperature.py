"""The temperature α: its loss, its schedules, and target entropies."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from torch import Tensor


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
            raise ValueError(
                f"ent_coef: got {text!r}, expected a positive number, 'auto', 'auto_START' or "
                "'anneal_START_END[_FRACTION[_BEGIN]]' with positive numbers and shares with "
                "0 <= BEGIN < FRACTION <= 1"
            )
        return made

    def __call__(self, progress_remaining: float) -> float:
        """α at the remaining share of training, 1 at the start and 0 at the end."""
        over = 1.0 - progress_remaining - self.begin
        done = min(1.0, max(0.0, over) / (self.fraction - self.begin))
        return self.start * (self.end / self.start) ** done


def annealing(text: str) -> Annealed | None:
    """The schedule in `ent_coef`, or None for SB3's values: a number, "auto" or "auto_START".

    >>> annealing("0.1"), annealing("auto_0.1"), annealing("anneal_10_1")
    (None, None, Annealed(start=10.0, end=1.0, fraction=0.5, begin=0.0))
    """
    head, _, start = text.partition("_")
    learned = head == "auto" and (text == "auto" or (_number(start) or 0.0) > 0.0)
    return None if learned or _number(text) is not None else Annealed.parse(text)


def entropy_target(text: str, action_dim: int) -> float:
    """Target entropy in nats for X action dimensions: a number as text, "modes_M" or "-C|A|/D".

    "modes_M": H̄ = −X + log M. SAC's −X is the entropy of a Gaussian with σ = .089 on each axis; M
    such Gaussians far apart have log M more. "-C|A|/D": H̄ = −C X / D, where C and D are 1 unless
    given: XQC has "-|A|/2", FlashSAC "-.48|A|", a Gaussian with σ = .15.

    >>> entropy_target("-3", 2), round(entropy_target("modes_4", 2), 3)
    (-3.0, -0.614)
    >>> entropy_target("-|A|/2", 6), entropy_target("-.48|A|", 2)
    (-3.0, -0.96)
    """
    number = _number(text)
    if number is not None:
        return number
    share = re.fullmatch(r"-(\d*\.?\d+)?\|A\|(?:/([1-9]\d*))?", text)
    if share is not None:
        return -float(share[1] or 1) * action_dim / float(share[2] or 1)
    match = re.fullmatch(r"modes_([1-9]\d*)", text)
    if match is None:
        raise ValueError(
            f"target_entropy: got {text!r}, expected a number, 'auto', 'modes_M' for M modes or a "
            "share of the action dimensions such as '-|A|/2' or '-.48|A|'"
        )
    return -float(action_dim) + math.log(int(match[1]))


def _number(text: str) -> float | None:
    """The finite number in a text, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
