"""How particles go through an ensemble: trajectory sampling and expectation (Chua et al. 2018).

* ``ts1``: at each step every particle draws a member anew.
* ``tsinf``: every particle keeps the member that it drew at the start, which keeps epistemic
  spread apart from the noise of a step.
* ``expectation``: one deterministic path through the mean over members and noise.

Members are shared out evenly over the rows, each member uniform for each row; the number of rows
need not be a multiple of that of the members. Where the model has a code an episode, every
particle also keeps the one that it drew at the start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vaerl.densities import ConditionalValue, IntractableError
from vaerl.densities.options import check_choice, check_positive
from vaerl.dynamics.episodes import draw_noise
from vaerl.planning.model import Step

if TYPE_CHECKING:
    from vaerl.dynamics.model import DynamicsModel

PROPAGATIONS = ("ts1", "tsinf", "expectation")
MEAN_SAMPLES = 16
"""Samples whose mean stands for E[x | c] where a density has no closed form of it."""


class Propagation:
    """One roll-out of B particles through the elites of a model.

    Args:
        model: what predicts.
        how: one of `PROPAGATIONS`.
        rows: B.
        generator: of the members drawn at the start.
    """

    def __init__(
        self,
        model: DynamicsModel,
        how: str,
        rows: int,
        generator: torch.Generator | None = None,
    ) -> None:
        self.model, self.rows = model, check_positive("rows", rows)
        self.how = check_choice("propagation", how, PROPAGATIONS)
        self.count = len(model.elites)
        self._offset = self._draw(generator)
        self._folded = model.folds and how != "expectation"
        self._noise: Tensor | None = None
        if model.latent == "episode":
            device = model.elites.device
            self._noise = draw_noise((self.rows,), model.latent_dim, device, generator)

    @torch.no_grad()
    def step(
        self, states: Tensor, actions: Tensor, generator: torch.Generator | None = None
    ) -> Step:
        """Move all particles ``(B, S)`` under actions ``(B, A)`` or ``(B,)``."""
        context = self.model.raw_inputs(states, actions)
        if not self._folded:
            context = self.model.input_normaliser(context)
        if self._noise is not None:
            context = torch.cat((context, self._noise), dim=-1)  # a code once the member is known
        if self.how == "expectation":
            event, ending = self._expect(context, generator)
        elif self.how == "ts1" and self.count > 1:
            self._offset = self._draw(generator)
            order = torch.randperm(self.rows, generator=generator, device=context.device)
            event, ending = self._sample(context[order], generator)
            back = order.argsort()
            event, ending = event[back], None if ending is None else ending[back]
        else:
            event, ending = self._sample(context, generator)
        return self.model.finish(states, actions, event, ending, generator)

    def _draw(self, generator: torch.Generator | None) -> int:
        if self.count == 1:
            return 0
        device = "cpu" if generator is None else generator.device
        return int(torch.randint(self.count, (), generator=generator, device=device))

    def _sample(
        self, context: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor | None]:
        """Draws ``(B, X)``, row i through elite (i + offset) mod count; chances of the end."""
        shared = self._share_out(context)
        if self._folded:
            folded = self.model.folded(self._offset)
            assert folded is not None, "the model folds"
            return self._gather(folded(shared, generator)), None
        networks: Any = self.model.acting(self._offset)
        event = self._law(networks, shared).sample((), generator)
        ending = self._ending(networks, shared, event)
        event = self.model.target_normaliser.inverse(self._gather(event))
        return event, None if ending is None else self._gather(ending)

    def _expect(
        self, context: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor | None]:
        networks: Any = self.model.acting()
        shared = context.expand(self.count, *context.shape)
        event = _mean(self._law(networks, shared), generator)
        ending = self._ending(networks, shared, event)
        rounded = None if ending is None else (ending.mean(0) > 0.5).to(event)
        return self.model.target_normaliser.inverse(event.mean(0)), rounded

    def _law(self, networks: Any, context: Tensor) -> ConditionalValue:
        """p(Δs, r | s, a) at contexts ``(count, M, C)``, with the codes that their noise makes."""
        if self._noise is not None:
            size = self.model.context_dim
            code = networks["episode"].place(context[..., size:])
            context = torch.cat((context[..., :size], code), dim=-1)
        return networks["density"](context)

    def _ending(self, networks: Any, context: Tensor, event: Tensor) -> Tensor | None:
        """Probability ``(count, M)`` that the episode ends with this step; None if never."""
        if "termination" not in networks:
            return None
        seen = context[..., : self.model.context_dim], event[..., : self.model.change_dim]
        return torch.sigmoid(networks["termination"](torch.cat(seen, dim=-1)).squeeze(-1))

    def _share_out(self, rows: Tensor) -> Tensor:
        """Rows ``(B, C)`` as ``(count, ⌈B/count⌉, C)``, the last ones repeated to fill up."""
        missing = -self.rows % self.count
        if missing:
            rows = torch.cat((rows, rows[-1:].expand(missing, -1)))
        return rows.reshape(-1, self.count, rows.shape[-1]).transpose(0, 1)

    def _gather(self, shared: Tensor) -> Tensor:
        return shared.transpose(0, 1).flatten(0, 1)[: self.rows]


def _mean(value: ConditionalValue, generator: torch.Generator | None) -> Tensor:
    try:
        return value.mean
    except IntractableError:
        return value.sample((MEAN_SAMPLES,), generator).mean(0)
