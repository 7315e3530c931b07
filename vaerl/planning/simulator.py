"""The true simulator as a model: environments that step whole batches."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaerl.densities.noise import check_generator
from vaerl.planning.model import Step


class SimulatorModel:
    """A `Model` over ``env.step_batch(states, actions, rng)``, which gives (s', r, d) as arrays.

    Two further methods of the environment are used where it has them, as those of
    `vaerl.envs.known_law.KnownLawEnv`: ``legal(states)`` says from which states a step can start (a
    roll-out that begins elsewhere raises ValueError; particles that come to be elsewhere have
    ended: they stay, with reward 0), and ``hidden_batch(count, rng)`` draws the hidden quantities
    of an episode, which a roll-out then keeps.

    Args:
        env: an environment with that method, wrapped or not; actions are in its own units.
        hidden: hidden quantities of the particles of a roll-out, drawn by `begin`.

    Raises:
        ValueError: an environment without it.

    >>> class Walk:
    ...     def step_batch(self, states, actions, rng):
    ...         return states + actions, -abs(states[:, 0]), states[:, 0] > 1.0
    >>> SimulatorModel(Walk()).step(torch.ones(1, 1), torch.ones(1, 1)).next_states
    tensor([[2.]])
    """

    def __init__(self, env: Any, hidden: Mapping[str, NDArray] | None = None) -> None:
        self.env = getattr(env, "unwrapped", env)
        if not callable(getattr(self.env, "step_batch", None)):
            raise ValueError(
                f"env: got {type(self.env).__name__}, "
                "expected one with a method step_batch(states, actions, rng)"
            )
        self._hidden = dict(hidden or {})
        self._starts = False  # whether the next step is the first one of a roll-out

    def begin(self, rows: int, generator: torch.Generator | None = None) -> SimulatorModel:
        """The model of one roll-out of `rows` particles, from states that are legal."""
        draw = getattr(self.env, "hidden_batch", None)
        hidden = self._hidden if draw is None else draw(rows, _rng(generator))
        begun = copy.copy(self)
        begun._hidden, begun._starts = dict(hidden), True
        return begun

    def step(
        self, states: Tensor, actions: Tensor, generator: torch.Generator | None = None
    ) -> Step:
        """Next states, rewards and ends; its random stream is seeded from `generator`."""
        now, chosen = states.detach().cpu().numpy(), actions.detach().cpu().numpy()
        legal = getattr(self.env, "legal", None)
        runs = np.ones(len(now), dtype=np.bool_) if legal is None else legal(now)
        if self._starts and not runs.all():
            wanted = getattr(self.env, "_legal_states", "one from which a step can start")
            raise ValueError(f"states: got {now[~runs][0].tolist()}, expected {wanted}")
        self._starts = False
        after, rewards, dones = now.copy(), np.zeros(len(now)), np.ones(len(now), dtype=np.bool_)
        if runs.any():
            hidden = {key: value[runs] for key, value in self._hidden.items()}
            after[runs], rewards[runs], dones[runs] = self.env.step_batch(
                now[runs], chosen[runs], _rng(generator), **hidden
            )
        return Step(
            torch.from_numpy(after).to(states),
            torch.from_numpy(rewards).to(states),
            torch.from_numpy(dones).to(states.device),
        )


def _rng(generator: torch.Generator | None) -> np.random.Generator:
    check_generator("generator", generator)
    device = None if generator is None else generator.device
    return np.random.default_rng(int(torch.randint(2**62, (), generator=generator, device=device)))
