"""Random shooting, CEM, iCEM and MPPI."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from vaerl.densities.options import check_above_zero, check_positive, check_share
from vaerl.planning.actions import Actions, Law
from vaerl.planning.planner import Planner, take_best


class RandomShooting(Planner):
    """The best of N sequences drawn uniformly; `iterations` batches of them.

    >>> from vaerl.planning import BoxActions
    >>> RandomShooting(BoxActions([-1.0], [1.0]), horizon=5, population=100).iterations
    1
    """

    name: ClassVar[str] = "random"
    acts_on_best: ClassVar[bool] = True

    def __init__(
        self, actions: Actions, *, iterations: int = 1, modes: int = 1, **settings: object
    ) -> None:
        super().__init__(actions, iterations=iterations, **settings)  # type: ignore[arg-type]
        check_positive("modes", modes, at_most=1)  # it has no law

    def _candidates(
        self, iteration: int, law: Law, kept: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        batch, device = len(law[0]), law[0].device
        drawn = self.actions.uniform(batch, self.share, self.horizon, generator, device)
        return drawn if kept is None else torch.cat((kept, drawn), dim=1)

    def _update(
        self, law: Law, plans: Tensor, values: Tensor, anew: bool = False
    ) -> tuple[Law, Tensor | None]:
        return law, take_best(plans, values, 1)


class CEM(Planner):
    """Cross-entropy method: the law is refitted to the best sequences (Rubinstein 1999).

    Args:
        elites: number of best sequences, shared among the laws as the population is.
        inertia: share of the old law in the new one.
    """

    name: ClassVar[str] = "cem"

    def __init__(
        self, actions: Actions, *, elites: int = 8, inertia: float = 0.1, **settings: object
    ) -> None:
        super().__init__(actions, **settings)  # type: ignore[arg-type]
        self.elites = check_positive("elites", elites)
        if not self.modes <= elites <= self.population:
            least = "" if self.modes == 1 else f"at least modes = {self.modes} and "
            raise ValueError(
                f"elites: got {elites}, expected {least}at most the population of {self.population}"
            )
        self.chosen = elites // self.modes  # by each law from its share
        self.inertia = check_share("inertia", inertia)

    def _update(
        self, law: Law, plans: Tensor, values: Tensor, anew: bool = False
    ) -> tuple[Law, Tensor | None]:
        best = take_best(plans, values, self.chosen)
        weights = values.new_full(best.shape[:2], 1.0 / best.shape[1])
        return self.actions.refit(law, best, weights, 0.0 if anew else self.inertia), None


class ICEM(CEM):
    """CEM with memory and coloured noise (Pinneri et al. 2020): few samples are enough.

    Noise has colour, the population falls by `decay` each iteration, a share of the elites goes on
    into the next iteration and the next step, the middle of the law joins the last iteration, and
    the best sequence is acted on.

    Args:
        colour: β of the noise's power ∝ f^(−β); 0 is white.
        decay: factor ≥ 1 by which the population falls; it keeps at least twice the elites.
        keep: share of the elites that go on.
    """

    name: ClassVar[str] = "icem"
    acts_on_best: ClassVar[bool] = True

    def __init__(
        self,
        actions: Actions,
        *,
        colour: float = 2.0,
        decay: float = 1.25,
        keep: float = 0.3,
        **settings: object,
    ) -> None:
        super().__init__(actions, **settings)  # type: ignore[arg-type]
        self.colour = _number("colour", colour, 0.0)
        self.decay = _number("decay", decay, 1.0)
        self.keep = max(1, round(check_share("keep", keep) * self.chosen))

    def _candidates(
        self, iteration: int, law: Law, kept: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        least = min(self.share, 2 * self.chosen)
        count = max(least, int(self.share * self.decay**-iteration))
        parts = [self.actions.draw(law, count, self.colour, generator)]
        if kept is not None:
            parts.append(kept)
        if iteration == self.iterations - 1:
            parts.append(self.actions.centre(law).unsqueeze(1))
        return torch.cat(parts, dim=1)

    def _update(
        self, law: Law, plans: Tensor, values: Tensor, anew: bool = False
    ) -> tuple[Law, Tensor | None]:
        law, _ = super()._update(law, plans, values, anew)
        return law, take_best(plans, values, self.keep)


class MPPI(Planner):
    """Model-predictive path integral: sequences weighted by exp(value/λ) (Williams et al. 2017).

    The law's middle moves to the weighted mean; its spread stays that of the start in a box.

    Args:
        temperature: λ in units of the values' standard deviation over the sequences, so that it
            does not depend on the scale of rewards.
        colour: β of the noise; 0 is white.
    """

    name: ClassVar[str] = "mppi"

    def __init__(
        self,
        actions: Actions,
        *,
        temperature: float = 0.3,
        colour: float = 0.0,
        **settings: object,
    ) -> None:
        super().__init__(actions, **settings)  # type: ignore[arg-type]
        self.temperature = check_above_zero("temperature", temperature, 1e6)
        self.colour = _number("colour", colour, 0.0)

    def _candidates(
        self, iteration: int, law: Law, kept: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        return self.actions.draw(law, self.share, self.colour, generator)

    def _update(
        self, law: Law, plans: Tensor, values: Tensor, anew: bool = False
    ) -> tuple[Law, Tensor | None]:
        finite = torch.isfinite(values)
        least = torch.where(finite, values, torch.inf).amin(1, keepdim=True)
        values = torch.where(finite, values, least)
        scale = values.std(1, keepdim=True, correction=0).clamp_min(1e-12)
        weights = torch.softmax(values / (self.temperature * scale), dim=1)
        refitted = self.actions.refit(law, plans, weights, 0.0)
        return (refitted[0], *law[1:]), None


def _number(argument: str, value: float, least: float) -> float:
    """A number from `least` to 100."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= 100.0:
        raise ValueError(f"{argument}: got {value!r}, expected a number from {least:g} to 100")
    return float(value)
