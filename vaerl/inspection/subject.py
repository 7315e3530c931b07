"""What can be looked at: a policy that is a density, or any function of an observation and z."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vaerl.densities.codes import draw_held_codes
from vaerl.names import check_name
from vaerl.policies.density_policy import DensityPolicy

Array = NDArray[np.float64]
PRIORS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "uniform": lambda rng, shape: rng.uniform(-1.0, 1.0, shape),
}
"""Laws from which a function's z is drawn: N(0, I), or uniform over [−1, 1]."""
SCALING_DRAWS = 256
LEAST_SCALE = 1e-3
"""Smallest scale of a number of an action, as a share of the largest."""


class Subject(ABC):
    """Acts on an observation and a latent z of E numbers; events are X numbers on one scale."""

    name: str
    latents: Sequence[str]
    """Names of the E numbers; empty without latents."""
    zero: Array
    """The middle of the prior, ``(E,)``."""
    units: str
    """What an event of size 1 means."""

    @abstractmethod
    def codes(self, count: int, seed: int) -> Array:
        """Independent z from the prior, ``(count, E)``."""

    @abstractmethod
    def draw(self, observation: Any, codes: Array | None, count: int, seed: int) -> Array:
        """Events ``(count, X)`` at one observation, one for each z ``(count, E)``, or without z."""

    @abstractmethod
    def to_actions(self, events: Array) -> Array:
        """Actions ``(N, T, A)`` of the next T steps."""

    @abstractmethod
    def predictor(self, codes: Array | None, seed: int) -> Any:
        """An object with `predict` that keeps z, or draws it at each decision if None."""


class PolicySubject(Subject):
    """The policy of an agent, as it acts: with or without the noise of its decoder.

    Args:
        agent: one whose `policy` is a density, or such a policy.
    """

    def __init__(self, agent: Any) -> None:
        self.agent = agent
        policy = getattr(agent, "policy", agent)
        if not isinstance(policy, DensityPolicy):
            raise ValueError(
                f"policy: got {type(policy).__name__}, expected a policy over a density of vaerl, "
                "or a function f(observation, z)"
            )
        self.policy = policy
        density = policy.head.density
        self.name = density.name
        self.latents = [f"z{i}" for i in range(density.code_dim)]
        if self.latents:
            self.latents[0] = "component"
        self.zero = np.where(np.arange(density.code_dim) == 0, 0.5, 0.0)
        self.units = policy.event_units

    def codes(self, count: int, seed: int) -> Array:
        generator = torch.Generator().manual_seed(seed)
        return draw_held_codes(self.policy.head.density, (count,), generator).double().numpy()

    def draw(self, observation: Any, codes: Array | None, count: int, seed: int) -> Array:
        policy = self.policy
        one = (
            {k: np.asarray(v)[None] for k, v in observation.items()}
            if isinstance(observation, dict)
            else np.asarray(observation)[None]
        )
        context = policy.context_at(one).expand(count, -1)
        given = None if codes is None else torch.as_tensor(codes).to(context)
        generator = torch.Generator(context.device).manual_seed(seed)
        return policy.draw(context, given, generator).double().cpu().numpy()

    def to_actions(self, events: Array) -> Array:
        return self.policy.to_actions(events)

    def predictor(self, codes: Array | None, seed: int) -> Any:
        return _Kept(self.agent, codes)


class _Kept:
    """An agent that is given the same codes at each decision."""

    def __init__(self, agent: Any, codes: Array | None) -> None:
        self.action_space, self.policy = agent.action_space, getattr(agent, "policy", agent)
        self._codes = codes

    def predict(self, observation: Any, *args: Any, **kwargs: Any) -> Any:
        return self.policy.predict(observation, *args, codes=self._codes, **kwargs)


class FunctionSubject(Subject):
    """A function f(observation, z) → action, or f(observation) if `latent_size` is 0.

    Events are actions divided by their standard deviation over draws at all observations.

    Args:
        function: takes one observation and z ``(E,)``.
        latent_size: E.
        prior: "normal" or "uniform".
        observations: those that will be looked at; they set the scale.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        latent_size: int,
        prior: str,
        observations: Sequence[Any],
    ) -> None:
        if latent_size < 0:
            raise ValueError(f"latent_size: got {latent_size!r}, expected 0 or more")
        self.function = function
        self.name = getattr(function, "__name__", type(function).__name__)
        self.latents = [f"z{i + 1}" for i in range(latent_size)]
        self.zero = np.zeros(latent_size)
        self.units = "standard deviations of each number of the action over all states"
        self._prior = PRIORS[check_name("prior", prior, PRIORS)]
        codes = self.codes(SCALING_DRAWS, 0)
        spread = np.concatenate([self.act(seen, codes) for seen in observations]).std(0)
        self._scale = np.maximum(spread, LEAST_SCALE * spread.max()) if spread.any() else 1.0

    def codes(self, count: int, seed: int) -> Array:
        return self._prior(np.random.default_rng(seed), (count, len(self.latents)))

    def act(self, observation: Any, codes: Array) -> Array:
        """Actions ``(N, A)``, one for each z."""
        actions = [
            self.function(observation, z) if len(z) else self.function(observation) for z in codes
        ]
        try:
            rows = [np.ravel(action).astype(np.float64) for action in actions]
        except (TypeError, ValueError):
            raise ValueError(
                f"function {self.name}: got the action {actions[0]!r:.60}, expected numbers"
            ) from None
        sizes = sorted({len(row) for row in rows})
        if len(sizes) != 1 or not sizes[0]:
            raise ValueError(
                f"function {self.name}: got actions of {sizes} numbers, expected one length"
            )
        found = np.stack(rows)
        if not np.isfinite(found).all():
            raise ValueError(
                f"function {self.name}: got an action that is not finite, expected finite numbers"
            )
        return found

    def draw(self, observation: Any, codes: Array | None, count: int, seed: int) -> Array:
        given = np.zeros((count, 0)) if codes is None else codes
        return self.act(observation, given) / self._scale

    def to_actions(self, events: Array) -> Array:
        return (events * self._scale)[:, None]

    def predictor(self, codes: Array | None, seed: int) -> Any:
        return _Called(self, codes, seed)


class _Called:
    """A function as something that predicts for a batch of observations."""

    def __init__(self, subject: FunctionSubject, codes: Array | None, seed: int) -> None:
        self._subject, self._codes, self._seed = subject, codes, seed

    def predict(self, observation: Any, *args: Any, **kwargs: Any) -> tuple[Array, None]:
        several = isinstance(observation, dict)
        count = len(next(iter(observation.values())) if several else observation)
        self._seed += 1
        fresh = self._subject.codes(count, self._seed)
        codes = fresh if self._codes is None else np.broadcast_to(self._codes, fresh.shape)
        rows = [
            {key: part[i] for key, part in observation.items()} if several else observation[i]
            for i in range(count)
        ]
        pairs = zip(rows, codes, strict=True)
        return np.stack([self._subject.act(row, z[None])[0] for row, z in pairs]), None
