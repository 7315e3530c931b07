"""Roll-outs of particles through an ensemble (Chua et al. 2018).

* ``ts1``: every particle draws a new member at each step.
* ``tsinf``: every particle keeps the member that it drew at the start, which keeps epistemic
  spread apart from the noise of a step.
* ``expectation``: one deterministic path through the mean over members and noise; a regressed
  reward is there that of the mean outcome.

Rows are split evenly among the members; each row sees every member with equal probability. The
number of rows need not be divisible by the number of members. Where the model has a code for each
episode, every particle also keeps the code that it drew at the start.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vaerl.densities import ConditionalValue, IntractableError
from vaerl.densities.noise import code_noise
from vaerl.densities.options import check_choice, check_positive
from vaerl.dynamics.ensemble import PROPAGATIONS, Ensemble
from vaerl.dynamics.heads import HEADS, Heads, head
from vaerl.dynamics.parts import check_completed
from vaerl.planning.model import Step, per_row

MEAN_SAMPLES = 16
"""Samples whose mean stands for E[x | c] where a density has no closed form of it."""


class Rollout:
    """One roll-out of B particles through the elites of an ensemble.

    Args:
        ensemble: the model.
        how: one of `PROPAGATIONS`.
        rows: B.
        generator: of the members, and codes, drawn at the start.
    """

    def __init__(
        self, ensemble: Ensemble, how: str, rows: int, generator: torch.Generator | None = None
    ) -> None:
        self.ensemble, self.rows = ensemble, check_positive("rows", rows)
        self.how = check_choice("propagation", how, PROPAGATIONS)
        self.count = len(ensemble.elites)
        self._offset = self._draw_offset(generator)
        self._noise: Tensor | None = None
        if ensemble.latent == "episode":
            like = ensemble.input_normaliser.mean
            self._noise = code_noise((self.rows,), ensemble.latent_dim, like, generator)

    @torch.no_grad()
    def step(
        self, states: Tensor, actions: Tensor, generator: torch.Generator | None = None
    ) -> Step:
        """Move all particles ``(B, S)`` under actions ``(B, A)``, or ``(B,)`` if discrete."""
        raw = self.ensemble.raw_inputs(states, actions)
        if len(raw) != self.rows:
            raise ValueError(f"states: got {len(raw)} rows, expected the {self.rows} of `begin`")
        if self._noise is not None:  # it becomes a code once the member is known
            raw = torch.cat((raw, self._noise), dim=-1)
        if self.how == "expectation":
            event, heads = self._expect(raw, generator)
        elif self.how == "ts1" and self.count > 1:
            self._offset = self._draw_offset(generator)
            order = torch.randperm(self.rows, generator=generator, device=raw.device)
            event, heads = self._sample(raw[order], generator)
            back = order.argsort()
            event, heads = event[back], {name: value[back] for name, value in heads.items()}
        else:
            event, heads = self._sample(raw, generator)
        return self._finish(states, actions, event, heads, generator)

    def _draw_offset(self, generator: torch.Generator | None) -> int:
        if self.count == 1:
            return 0
        device = "cpu" if generator is None else generator.device
        return int(torch.randint(self.count, (), generator=generator, device=device))

    def _sample(self, raw: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Heads]:
        """Events ``(B, X)`` and what the heads say of them, each ``(B,)``.

        Row i goes through elite (i + offset) mod count.
        """
        shared = self._share_out(raw)
        folded = None if self._noise is not None else self.ensemble.folded(self._offset)
        if folded is not None:
            event = folded(shared, generator)
            fast = self.ensemble.folded_heads(self._offset)
            heads = {name: each(shared, event) for name, each in fast.items()}
        else:
            networks: Any = self.ensemble.acting(self._offset)
            context = self._standardised(shared)
            drawn = self._law(networks, context).sample((), generator)
            event = self.ensemble.target_normaliser.inverse(drawn)
            heads = self._heads(networks, context, drawn)
        heads = self._in_units(heads)
        return self._gather(event), {name: self._gather(value) for name, value in heads.items()}

    def _expect(self, raw: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Heads]:
        networks: Any = self.ensemble.acting()
        context = self._standardised(raw)
        shared = context.expand(self.count, *context.shape)
        event = _mean(self._law(networks, shared), generator)
        heads = self._in_units(self._heads(networks, shared, event))
        means = {name: value.mean(0) for name, value in heads.items()}
        if "termination" in means:
            means["termination"] = (means["termination"] > 0.5).to(event)
        return self.ensemble.target_normaliser.inverse(event.mean(0)), means

    def _standardised(self, raw: Tensor) -> Tensor:
        """Standardised inputs, followed by the unchanged noise of the codes."""
        size = self.ensemble.context_dim
        context = self.ensemble.input_normaliser(raw[..., :size])
        return context if self._noise is None else torch.cat((context, raw[..., size:]), dim=-1)

    def _law(self, networks: Any, context: Tensor) -> ConditionalValue:
        """p(Δs, r | s, a) at contexts ``(count, M, C)``, with the codes of their noise."""
        if self._noise is not None:
            size = self.ensemble.context_dim
            code = networks["episode"].place(context[..., size:])
            context = torch.cat((context[..., :size], code), dim=-1)
        return networks["density"](context)

    def _heads(self, networks: Any, context: Tensor, event: Tensor) -> Heads:
        """Outputs ``(count, M)`` of the heads at standardised events."""
        seen = context[..., : self.ensemble.context_dim], event[..., : self.ensemble.change_dim]
        return {name: head(networks, name, *seen) for name in HEADS if name in networks}

    def _in_units(self, outputs: Heads) -> Heads:
        """Probabilities of the end, and rewards in their own units."""
        found = dict(outputs)
        if "termination" in found:
            found["termination"] = torch.sigmoid(found["termination"])
        if "reward" in found:
            found["reward"] = self.ensemble.reward_normaliser.inverse(found["reward"])
        return found

    def _finish(
        self,
        states: Tensor,
        actions: Tensor,
        event: Tensor,
        heads: Heads,
        generator: torch.Generator | None,
    ) -> Step:
        """The step that events (Δs, r) make, and what the heads say of them.

        Args:
            states, actions: before the step, ``(B, S)`` and ``(B, A)`` or ``(B,)``.
            event: in its own units, ``(B, X)``.
            heads: probabilities of the end and regressed rewards, ``(B,)``, where there are any.
            generator: of the ends; without it and with probabilities of 0 or 1 the step is
                deterministic.
        """
        model = self.ensemble
        before = states if model.complete is None else states[:, model.predicted]
        after = before + event[:, : model.change_dim]
        if model.complete is not None:
            after = check_completed(model.complete(states, actions, after), states)
        after = after.clamp(model.state_low, model.state_high)
        reward = done = None
        if model.reward == "learned":
            reward = event[:, model.change_dim]
        elif "reward" in heads:
            reward = heads["reward"]
        elif callable(model.reward):
            reward = per_row("reward", model.reward(states, actions, after), len(after))
        if "termination" in heads:
            ending = heads["termination"]
            draw = torch.rand(ending.shape, generator=generator, device=ending.device)
            done = draw < ending
        elif callable(model.termination):
            done = per_row("termination", model.termination(states, actions, after), len(after))
            done = done.bool()
        return Step(after, reward, done)

    def _share_out(self, rows: Tensor) -> Tensor:
        """Rows ``(B, C)`` as ``(count, ⌈B/count⌉, C)``; the last row is repeated to fill up."""
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
