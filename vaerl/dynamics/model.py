"""A learned dynamics model: an ensemble that planners and agents step."""

from __future__ import annotations

import torch
from torch import Tensor

from vaerl.densities.base import check_matrix
from vaerl.densities.noise import check_generator
from vaerl.dynamics.ensemble import Ensemble
from vaerl.dynamics.rollout import Rollout
from vaerl.planning.model import Step


class DynamicsModel(Ensemble):
    """An `Ensemble` with roll-outs; the arguments are those of `Ensemble`.

    >>> model = DynamicsModel(3, 1, density="gaussian", members=2)
    >>> step = model.step(torch.zeros(7, 3), torch.zeros(7, 1))
    >>> step.next_states.shape, step.rewards.shape, step.dones
    (torch.Size([7, 3]), torch.Size([7]), None)
    """

    def begin(self, rows: int, generator: torch.Generator | None = None) -> Rollout:
        """A roll-out of `rows` particles; with "tsinf" each keeps its member to the end."""
        check_generator("generator", generator)
        return Rollout(self, self.propagation, rows, generator)

    @torch.no_grad()
    def step(
        self, states: Tensor, actions: Tensor, generator: torch.Generator | None = None
    ) -> Step:
        """Draw s', r and d for rows ``(B, S)``, ``(B, A)``, each through a newly drawn member.

        Rewards and dones are None where the model has none. Raises ValueError, TypeError: rows that
        do not fit the model or are not finite.
        """
        self.check_rows(states, actions)
        return self.begin(len(states), generator).step(states, actions, generator)

    def check_rows(self, states: Tensor, actions: Tensor) -> None:
        """Raise one line unless these are B rows of finite states and actions of the model."""
        _check_table("states", states, self.state_dim)
        if not self.discrete_actions:
            _check_table("actions", actions, self.action_dim)
        elif not isinstance(actions, Tensor):
            raise TypeError(f"actions: got {type(actions).__name__}, expected a torch.Tensor")
        elif actions.ndim != 1:
            raise ValueError(f"actions: got shape {tuple(actions.shape)}, expected (B,)")
        if len(actions) != len(states):
            raise ValueError(f"actions: got {len(actions)} rows, expected {len(states)}")


def _check_table(argument: str, value: Tensor, size: int) -> None:
    if check_matrix(argument, value, size).ndim != 2:
        raise ValueError(f"{argument}: got shape {tuple(value.shape)}, expected (B, {size})")
