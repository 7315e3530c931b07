"""Laws over action sequences that planners draw from and refit: boxes and discrete choices.

A law is a tuple of tensors with a leading batch B of states and the horizon H: mean and standard
deviation ``(B, H, A)`` in a box, probabilities ``(B, H, K)`` of K choices. Plans are ``(B, N, H,
A)`` floats, or ``(B, N, H)`` whole numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from vaerl.densities.noise import standard_normal
from vaerl.densities.options import check_above_zero, check_positive
from vaerl.planning.noise import coloured_noise

Law = tuple[Tensor, ...]

SMALLEST_STD = 0.02
"""Least standard deviation of a refitted law, as a share of the box's half width."""
SMALLEST_PROBABILITY = 0.02
"""Share of uniform choice in every law over choices, so that none is ruled out."""


@runtime_checkable
class Actions(Protocol):
    """The interface of an action space for planners."""

    def start(self, batch: int, horizon: int, device: torch.device) -> Law:
        """The law before anything is known."""

    def shift(self, law: Law) -> Law:
        """The law one step later: its first action gone, its spread that of the start."""

    def draw(
        self, law: Law, count: int, colour: float, generator: torch.Generator | None
    ) -> Tensor:
        """`count` plans for each state."""

    def uniform(
        self, batch: int, count: int, horizon: int, generator: torch.Generator | None, device: Any
    ) -> Tensor:
        """Plans drawn uniformly from all."""

    def refit(self, law: Law, plans: Tensor, weights: Tensor, inertia: float) -> Law:
        """The law fitted to plans under weights ``(B, N)``, mixed with the share `inertia` of the
        old one."""

    def centre(self, law: Law) -> Tensor:
        """The plan ``(B, H, …)`` in the middle of a law: its mean, or its likeliest choices."""

    def shift_plans(self, plans: Tensor) -> Tensor:
        """Plans one step later, their last action twice."""

    def traits(self, plans: Tensor) -> Tensor:
        """Numbers ``(B, N, F)`` whose distances tell how differently plans move: running sums of
        their actions, in which noise averages out."""


class BoxActions:
    """Sequences in a box, normal around a mean and clipped to the bounds.

    Args:
        low, high: finite bounds ``(A,)``.
        std: of the start, as a share of the box's half width.

    >>> law = BoxActions([-1.0], [3.0]).start(1, 2, torch.device("cpu"))
    >>> law[0].flatten().tolist(), law[1].flatten().tolist()
    ([1.0, 1.0], [1.0, 1.0])
    """

    def __init__(self, low: Sequence[float], high: Sequence[float], std: float = 0.5) -> None:
        self.low, self.high = (
            _as_bound(name, bound) for name, bound in (("low", low), ("high", high))
        )
        if self.low.shape != self.high.shape or not self.low.numel():
            raise ValueError(
                f"low, high: got sizes {self.low.numel()} and {self.high.numel()}, "
                "expected one bound each for every action dimension"
            )
        finite = torch.isfinite(self.low) & torch.isfinite(self.high)
        if not bool((finite & (self.low < self.high)).all()):
            raise ValueError(
                f"low, high: got {self.low.tolist()} and {self.high.tolist()}, "
                "expected finite bounds with low < high"
            )
        self.half = 0.5 * (self.high - self.low)
        self.middle = 0.5 * (self.high + self.low)
        self.std = check_above_zero("std", std, 10.0) * self.half

    def start(self, batch: int, horizon: int, device: torch.device) -> Law:
        """See `Actions`."""
        shape = (batch, horizon, len(self.low))
        return tuple(part.to(device).expand(shape) for part in (self.middle, self.std))

    def shift(self, law: Law) -> Law:
        """See `Actions`."""
        mean, std = law
        last = self.middle.to(mean).expand_as(mean[:, :1])
        return torch.cat((mean[:, 1:], last), dim=1), self.std.to(std).expand_as(std)

    def draw(
        self, law: Law, count: int, colour: float, generator: torch.Generator | None
    ) -> Tensor:
        """See `Actions`."""
        mean, std = law
        shape = (len(mean), count, *mean.shape[1:])
        noise = coloured_noise(standard_normal(shape, mean, generator), colour)
        return self._clip(torch.addcmul(mean.unsqueeze(1), std.unsqueeze(1), noise))

    def uniform(
        self, batch: int, count: int, horizon: int, generator: torch.Generator | None, device: Any
    ) -> Tensor:
        """See `Actions`."""
        shape = (batch, count, horizon, len(self.low))
        unit = torch.rand(shape, generator=generator, device=device)
        return self.low.to(device) + 2.0 * self.half.to(device) * unit

    def refit(self, law: Law, plans: Tensor, weights: Tensor, inertia: float) -> Law:
        """See `Actions`."""
        w = weights[:, :, None, None].to(law[0])
        mean = (w * plans).sum(1)
        variance = (w * (plans - mean.unsqueeze(1)).square()).sum(1)
        std = variance.sqrt().maximum(SMALLEST_STD * self.half.to(mean))
        return (torch.lerp(mean, law[0], inertia), torch.lerp(std, law[1], inertia))

    def centre(self, law: Law) -> Tensor:
        """See `Actions`."""
        return self._clip(law[0])

    def shift_plans(self, plans: Tensor) -> Tensor:
        """See `Actions`."""
        return torch.cat((plans[..., 1:, :], plans[..., -1:, :]), dim=-2)

    def traits(self, plans: Tensor) -> Tensor:
        """See `Actions`."""
        return (plans / self.half.to(plans)).cumsum(-2).flatten(-2)

    def _clip(self, plans: Tensor) -> Tensor:
        return plans.clamp(self.low.to(plans), self.high.to(plans))


def _as_bound(argument: str, value: Sequence[float]) -> Tensor:
    try:
        return torch.as_tensor(value, dtype=torch.float32).reshape(-1)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{argument}: got {value!r:.60}, expected a list of numbers") from None


class DiscreteActions:
    """Sequences of whole numbers from 0 to K − 1, each with its own probabilities.

    Args:
        count: K.

    >>> DiscreteActions(4).start(1, 2, torch.device("cpu"))[0].tolist()
    [[[0.25, 0.25, 0.25, 0.25], [0.25, 0.25, 0.25, 0.25]]]
    """

    def __init__(self, count: int) -> None:
        self.count = check_positive("count", count)

    def start(self, batch: int, horizon: int, device: torch.device) -> Law:
        """See `Actions`."""
        return (torch.full((batch, horizon, self.count), 1.0 / self.count, device=device),)

    def shift(self, law: Law) -> Law:
        """See `Actions`: half of it uniform again."""
        probabilities = law[0]
        uniform = torch.full_like(probabilities[:, :1], 1.0 / self.count)
        later = torch.cat((probabilities[:, 1:], uniform), dim=1)
        return (0.5 * later + 0.5 / self.count,)

    def draw(
        self, law: Law, count: int, colour: float, generator: torch.Generator | None
    ) -> Tensor:
        """See `Actions`; choices have no colour."""
        probabilities = law[0]
        batch, horizon, choices = probabilities.shape
        drawn = torch.multinomial(
            probabilities.reshape(-1, choices), count, replacement=True, generator=generator
        )
        return drawn.reshape(batch, horizon, count).movedim(-1, 1)

    def uniform(
        self, batch: int, count: int, horizon: int, generator: torch.Generator | None, device: Any
    ) -> Tensor:
        """See `Actions`."""
        shape = (batch, count, horizon)
        return torch.randint(self.count, shape, generator=generator, device=device)

    def refit(self, law: Law, plans: Tensor, weights: Tensor, inertia: float) -> Law:
        """See `Actions`."""
        chosen = torch.nn.functional.one_hot(plans, self.count)
        share = (weights[:, :, None, None].to(law[0]) * chosen).sum(1)
        share = (1.0 - SMALLEST_PROBABILITY) * share + SMALLEST_PROBABILITY / self.count
        return (torch.lerp(share, law[0], inertia),)

    def centre(self, law: Law) -> Tensor:
        """See `Actions`."""
        return law[0].argmax(-1)

    def shift_plans(self, plans: Tensor) -> Tensor:
        """See `Actions`."""
        return torch.cat((plans[..., 1:], plans[..., -1:]), dim=-1)

    def traits(self, plans: Tensor) -> Tensor:
        """See `Actions`."""
        chosen = torch.nn.functional.one_hot(plans, self.count)
        return chosen.float().cumsum(-2).flatten(-2)
