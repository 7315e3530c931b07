"""What a policy that is a conditional density answers beside SB3's interface."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from vaerl.densities import ConditionalDensity
from vaerl.densities.noise import Noise
from vaerl.policies.builder import building_agent
from vaerl.policies.noise import NoiseSource


class Rhythm(NamedTuple):
    """When a policy decides and what it keeps between two decisions."""

    history: int = 1
    """Observations that a decision sees, the newest last."""
    chunk: int = 1
    """Actions of a decision, …"""
    execute: int = 1
    """… of which so many are carried out."""
    held: int | None = 0
    """First numbers of the noise of a decision that are kept; None for all of them."""
    hold: int | str = 1
    """Steps through which they are kept, "episode" or "zeta"."""


class DensityPolicy:
    """Mixed in before the SB3 policy; the head is the module that holds density and noise."""

    action_space: Any
    decoder_noise: bool = True
    """Whether actions carry the noise of the decoder; without it they are E[a | z, s]."""
    made_for: ClassVar[type] = BaseAlgorithm
    """Agents that can use this policy are of this class, …"""
    refused: ClassVar[Mapping[str, str]] = {}
    """… except for these, by name, with what they need."""
    chunk: int = 1
    """Actions in an event of the density."""
    event_units: str = "half widths of the action box"
    """What an event of size 1 means."""
    fixed_seed: ClassVar[int | None] = None
    """Seed of the noise that a deterministic decision reads; None if it reads none."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Refuse, in one line, an agent that needs another kind of policy."""
        agent = building_agent()
        if agent is not None:
            for name in (base.__name__ for base in type(agent).__mro__):
                if name in cls.refused:
                    raise ValueError(
                        f"policy: got {cls.__name__} for {name}, which needs {cls.refused[name]}"
                    )
            if not isinstance(agent, cls.made_for):
                raise ValueError(
                    f"policy: got {cls.__name__} for {type(agent).__name__}, expected a policy of "
                    f"that agent; {cls.__name__} is for {cls.made_for.__name__}"
                )
        return super().__new__(cls)

    @property
    def head(self) -> Any:
        """The module with `density`, `noise` and `context(obs)`."""
        return self

    @property
    def acting(self) -> Any:
        """The policy that `predict` asks: this one, or a part of it."""
        return self

    def to_trace(self) -> Self:
        """A copy on the CPU whose `decision` can be traced."""
        made: Any = copy.deepcopy(self)
        made.to("cpu").set_training_mode(False)
        return made

    @property
    def rhythm(self) -> Rhythm:
        """When it decides and what it keeps."""
        return Rhythm()

    def decision(self, obs: PyTorchObs, noise: Noise, deterministic: bool = False) -> Tensor:
        """A decision ``(B, T, *shape)`` in units of the box, by this noise and no other.

        `predict` without its state, as a function that can be traced and exported. Observations
        come as the environment gives them, ``(B, …)``, or ``(B, H, …)`` for a history.
        """
        raise NotImplementedError(f"{type(self).__name__} has no decision to trace")

    def answer(self, observations: Any, deterministic: bool = False) -> np.ndarray:
        """A decision ``(B, T, *shape)`` of `predict` at numpy observations ``(B, H, …)``."""
        if isinstance(observations, dict):
            last: Any = {key: x[:, -1] for key, x in observations.items()}
        else:
            last = observations[:, -1]
        return self.predict(last, deterministic=deterministic)[0][:, None]

    @property
    def box_units(self) -> tuple[np.ndarray, np.ndarray]:
        """Middle and half width of the box, each ``(A,)``: a = middle + half · event."""
        low, high = (bound.ravel() for bound in (self.action_space.low, self.action_space.high))
        return (low + high) / 2, (high - low) / 2

    def context_at(self, observations: Any) -> Tensor:
        """What the density is conditioned on, ``(B, C)``, at a batch of numpy observations."""
        self.set_training_mode(False)  # type: ignore[attr-defined]
        with torch.no_grad():
            return self.head.context(self.obs_to_tensor(observations)[0])  # type: ignore[attr-defined]

    def to_events(self, actions: np.ndarray) -> np.ndarray:
        """Events of the density ``(N, X)`` from actions ``(N, T, A)`` of the next T steps."""
        middle, half = self.box_units
        return ((actions - middle) / half).reshape(len(actions), -1)

    def to_actions(self, events: np.ndarray) -> np.ndarray:
        """Actions within the box ``(N, T, A)`` from events ``(N, X)``."""
        middle, half = self.box_units
        actions = middle + half * events.reshape(len(events), -1, len(middle))
        return np.clip(actions, middle - half, middle + half)

    def predict(
        self,
        observation: Any,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        codes: Any = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """As in SB3; with `codes`, see `predict_given_codes`."""
        if codes is not None:
            return self.predict_given_codes(observation, codes, deterministic), state
        return super().predict(observation, state, episode_start, deterministic)  # type: ignore[misc]

    def draw(
        self,
        context: Tensor,
        codes: Tensor | None,
        generator: Noise = None,
        decoder_noise: bool | None = None,
    ) -> Tensor:
        """One event at each context ``(B, X)``, with fresh or with given codes ``(B, E)``.

        Without `decoder_noise` (default: that of the policy) it is E[a | z, s].
        """
        density: ConditionalDensity = self.head.density
        noisy = self.decoder_noise if decoder_noise is None else decoder_noise
        with torch.no_grad():
            value = density(context) if codes is None else density.value_given_codes(context, codes)
            return (value.sample if noisy else value.sample_mean)((), generator)

    def check_codes(self, codes: Any, rows: int) -> Tensor:
        """Codes ``(rows, E)`` of given ones ``(E,)`` or ``(rows, E)``, or one line."""
        density: ConditionalDensity = self.head.density
        size = density.code_dim
        if not size:
            raise ValueError(
                f"codes: got shape {np.shape(codes)}, expected None: density {density.name!r} has "
                "no latent codes"
            )
        array = np.asarray(codes, np.float32)
        if array.shape not in ((size,), (rows, size)) or not np.isfinite(array).all():
            finite = "" if np.isfinite(array).all() else ", not all finite"
            raise ValueError(
                f"codes: got shape {array.shape}{finite}, expected ({size},) or ({rows}, {size}) "
                f"of density {density.name!r}"
            )
        return torch.tensor(array, device=self.head.device).expand(rows, size)

    def predict_given_codes(
        self, observation: Any, codes: Any, deterministic: bool = False
    ) -> np.ndarray:
        """Actions with the latent codes `codes`: they choose the way, and keep it if they stay.

        Args:
            observation: one, or a batch ``(B, …)``.
            codes: ``(E,)``, or one for each observation ``(B, E)``; see `density.draw_codes`.
            deterministic: take E[a | z, s] without the noise of the decoder.
        """
        self.set_training_mode(False)  # type: ignore[attr-defined]
        tensors, batched = self.obs_to_tensor(observation)  # type: ignore[attr-defined]
        with torch.no_grad():
            context = self.head.context(tensors)
        given = self.check_codes(codes, len(context))
        noise: NoiseSource = self.head.noise
        events = self.draw(
            context, given, noise.generator(context.device), False if deterministic else None
        )
        actions = self.to_actions(events.cpu().numpy())[:, 0].reshape(-1, *self.action_space.shape)
        actions = actions.astype(self.action_space.dtype)
        return actions if batched else actions[0]
