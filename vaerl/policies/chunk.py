"""A policy that answers an observation with a chunk of the next T actions.

p(a_t, …, a_{t+T−1} | s_{t−H+1}, …, s_t) is one conditional density over T · A numbers. The first
`execute` actions of a chunk are carried out before the policy looks again (Zhao et al. 2023; Chi et
al. 2023). Observations and actions are standardised by the data; each input is also seen through
waves of several lengths, without which a network cannot resolve small distances (Tancik et al.
2020).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from vaerl.data.demonstrations import Observations, check_observation_space
from vaerl.densities import ConditionalDensity, ConditionalValue
from vaerl.densities.codes import draw_held_codes
from vaerl.densities.noise import Noise
from vaerl.densities.options import check_at_least_zero, check_choice, check_positive, check_sizes
from vaerl.densities.registry import density_options
from vaerl.nets import mlp
from vaerl.policies.density_policy import DensityPolicy, Rhythm
from vaerl.policies.head import make_head
from vaerl.policies.hold import EPISODE
from vaerl.policies.noise import NoiseSource
from vaerl.policies.rows import flatten_rows, inputs_of
from vaerl.policies.spaces import check_action_space
from vaerl.policies.standard import wave_matrix, with_waves

LATENTS = ("decision", "chunk", EPISODE)
FLAT = 1e-6
"""Standard deviation below which an input counts as constant."""


class Plan(NamedTuple):
    """What `predict` hands out as its state and takes back, one row an environment.

    Actions ``(B, T, A)`` in units of the box and how many of them are done ``(B,)``, the last H
    observations ``(B, H, D)``, latent codes ``(B, E)`` and for how many steps they have been in use
    ``(B,)``.
    """

    actions: np.ndarray
    done: np.ndarray
    past: np.ndarray
    codes: np.ndarray
    age: np.ndarray


class ChunkPolicy(DensityPolicy, BasePolicy):
    """Chunks of T actions from a conditional density.

    Args:
        chunk: T, actions in a chunk.
        execute: of these, how many are carried out before the next decision; half of them if None.
        history: H, observations that a decision sees.
        density, density_kwargs: name and options of the density over the chunk.
        net_arch: widths of the network between observation and density.
        wavelengths: of the waves through which inputs are seen, in standard deviations of the
            input; () for none.
        wave_inputs: places of the inputs seen through waves, negative ones counted from the end;
            all if None.
        sigma_floor: smallest σ of the density, in standard deviations of the actions. It keeps the
            likelihood from being spent on the atoms that demonstrations hold (a stick at rest, a
            gripper that is open or shut).
        latent: for how long a latent code is kept: "decision" draws one at each decision, "chunk"
            keeps it for T steps, "episode" until the episode ends.
        latent_temperature: standard deviation of the noise of a drawn latent, in units of the
            prior's; below 1 draws lie closer to the means of the prior's components, whose shares
            do not change.
        decoder_noise: whether actions carry the decoder's noise; without it they are E[a | z, s] at
            a drawn latent z.
        num_candidates: candidates of a deterministic decision.

    Raises:
        ValueError: a space or an option that is not legal.
    """

    action_space: spaces.Box
    event_units = "standard deviations of each number of the action in the demonstrations"
    obs_mean: Tensor
    obs_scale: Tensor
    action_mean: Tensor
    action_scale: Tensor
    wave_matrix: Tensor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Any = None,
        *,
        chunk: int = 8,
        execute: int | None = None,
        history: int = 4,
        density: str = "cvae",
        density_kwargs: Mapping[str, Any] | None = None,
        net_arch: Sequence[int] = (128, 128),
        wavelengths: Sequence[float] = (8.0, 4.0, 2.0, 1.0),
        wave_inputs: Sequence[int] | None = None,
        sigma_floor: float = 0.45,
        latent: str = "decision",
        latent_temperature: float = 1.0,
        decoder_noise: bool = False,
        num_candidates: int = 32,
    ) -> None:
        super().__init__(
            check_observation_space(observation_space), check_action_space(action_space)
        )
        self.chunk = check_positive("chunk", chunk)
        self.execute = check_positive("execute", max(1, chunk // 2) if execute is None else execute)
        if self.execute > chunk:
            raise ValueError(
                f"execute: got {execute}, expected at most the chunk of {chunk} actions"
            )
        self.history = check_positive("history", history)
        self.latent = check_choice("latent", latent, LATENTS)
        self.latent_temperature = check_at_least_zero("latent_temperature", latent_temperature)
        self.decoder_noise = decoder_noise
        self.num_candidates = check_positive("num_candidates", num_candidates)
        if not 0.0 < sigma_floor < math.exp(2.0):
            raise ValueError(f"sigma_floor: got {sigma_floor!r}, expected a number above 0")
        lengths = [float(length) for length in wavelengths]
        if not all(0.0 < length < math.inf for length in lengths):
            raise ValueError(f"wavelengths: got {wavelengths!r}, expected positive numbers")
        self.options: dict[str, Any] = {
            "chunk": chunk,
            "execute": self.execute,
            "history": history,
            "density": density,
            "density_kwargs": dict(density_kwargs or {}),
            "net_arch": list(net_arch),
            "wavelengths": lengths,
            "wave_inputs": None if wave_inputs is None else list(wave_inputs),
            "sigma_floor": sigma_floor,
            "latent": latent,
            "latent_temperature": self.latent_temperature,
            "decoder_noise": decoder_noise,
            "num_candidates": num_candidates,
        }
        self.obs_dim = spaces.flatdim(observation_space) * history
        self.action_dim = get_action_dim(action_space)
        self._make_buffers(lengths, wave_inputs)
        widths = check_sizes("net_arch", net_arch, allow_empty=True)
        self.features_dim = self.obs_dim + 2 * self.wave_matrix.shape[1]
        self.trunk = mlp(self.features_dim, widths)
        bounds = {"log_sigma_bounds": (math.log(sigma_floor), 2.0)}
        has_sigma = "log_sigma_bounds" in density_options(density)
        self.density: ConditionalDensity = make_head(
            density,
            {**(bounds if has_sigma else {}), **self.options["density_kwargs"]},
            "chunk",
            context_dim=widths[-1] if widths else self.features_dim,
            event_dim=chunk * self.action_dim,
            squash=False,
        )
        if latent != "decision" and not self.density.code_dim:
            raise ValueError(
                f"latent: got {latent!r} with density {density!r}, expected 'decision': it has no "
                "latents to keep"
            )
        self.noise = NoiseSource(space=action_space)

    def _make_buffers(self, lengths: list[float], wave_inputs: Sequence[int] | None) -> None:
        places = list(range(self.obs_dim) if wave_inputs is None else wave_inputs)
        if not set(places) <= set(range(-self.obs_dim, self.obs_dim)):
            raise ValueError(
                f"wave_inputs: got {wave_inputs!r}, expected places from {-self.obs_dim} to "
                f"{self.obs_dim - 1}"
            )
        self.register_buffer("wave_matrix", wave_matrix(self.obs_dim, places, lengths))
        for name, size in (("obs", self.obs_dim), ("action", self.action_dim)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_scale", torch.ones(size))

    def standardise(self, observations: Tensor, actions: Tensor) -> None:
        """Take mean and standard deviation of inputs ``(N, H · D)`` and actions ``(N, A)``."""
        for name, rows in (("obs", observations), ("action", actions)):
            scale = rows.std(0, correction=0)
            getattr(self, f"{name}_mean").copy_(rows.mean(0))
            getattr(self, f"{name}_scale").copy_(torch.where(scale > FLAT, scale, 1.0))

    # -- the density -------------------------------------------------------------------------------

    def features(self, observations: Tensor, noise: Tensor | None = None) -> Tensor:
        """Standardised inputs ``(B, H · D)``, with their `noise` added, beside their waves."""
        x = (observations - self.obs_mean) / self.obs_scale
        if noise is not None:
            x = x + noise
        return with_waves(x, self.wave_matrix)

    def context(self, observations: Tensor, noise: Tensor | None = None) -> Tensor:
        """What the density is conditioned on, at inputs ``(B, H · D)``.

        `noise` is added to the standardised inputs.
        """
        return self.trunk(self.features(observations, noise))

    def action_density(self, observations: Tensor) -> ConditionalValue:
        """p(chunk | s) over standardised actions ``(B, T · A)`` at inputs ``(B, H · D)``."""
        return self.density(self.context(observations))

    def events(self, actions: Tensor) -> Tensor:
        """Standardised chunks ``(B, T · A)`` of actions ``(B, T, A)``."""
        return ((actions - self.action_mean) / self.action_scale).flatten(1)

    def chunks(self, events: Tensor) -> Tensor:
        """Actions ``(B, T, A)`` within the box, of standardised chunks ``(B, T · A)``."""
        actions = events.unflatten(-1, (self.chunk, self.action_dim))
        low, high = (
            torch.as_tensor(bound.ravel(), dtype=actions.dtype, device=actions.device)
            for bound in (self.action_space.low, self.action_space.high)
        )
        return (actions * self.action_scale + self.action_mean).clamp(low, high)

    # -- acting ------------------------------------------------------------------------------------

    def context_at(self, observations: Observations) -> Tensor:
        """What the density is conditioned on, ``(B, C)``, at first observations of episodes."""
        self.set_training_mode(False)
        past = self._flat(observations)[0].repeat(self.history, axis=0)
        with torch.no_grad():
            return self.context(torch.as_tensor(past.reshape(-1, self.obs_dim), device=self.device))

    def to_events(self, actions: np.ndarray) -> np.ndarray:
        """As `events`, of numpy arrays."""
        return self.events(torch.as_tensor(actions, device=self.device).float()).cpu().numpy()

    def to_actions(self, events: np.ndarray) -> np.ndarray:
        """As `chunks`, of numpy arrays."""
        return self.chunks(torch.as_tensor(events, device=self.device).float()).cpu().numpy()

    def predict(
        self,
        observation: Observations,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        codes: np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """The next action of the running chunk, or the first of a new one.

        Args:
            observation: one, or a batch ``(B, …)``.
            state: the last answer's second part; None begins new episodes.
            episode_start: which rows begin an episode, ``(B,)``.
            deterministic: take the best of `num_candidates` chunks by density; with `codes`,
                E[a | z, s].
            codes: latent codes ``(B, E)`` or ``(E,)`` that the next decisions use, so that a caller
                chooses the way and keeps it; see `density.draw_codes`.
        """
        self.set_training_mode(False)
        flat, batched = self._flat(observation)
        plan = self._begin(flat) if state is None else self._check_state(state, len(flat))
        start = np.zeros(len(flat), bool) if state is not None else np.ones(len(flat), bool)
        if episode_start is not None:
            start = start | np.asarray(episode_start, bool)
        past = np.concatenate([plan.past[:, 1:], flat[:, None]], axis=1)
        past[start] = flat[start, None]
        due = start | (plan.done >= self.execute)
        actions, done = plan.actions.copy(), np.where(due, 0, plan.done)
        own, age = self._codes(plan, start, due, codes)
        if due.any():
            actions[due] = self._decide(past[due], own[due], deterministic, codes is not None)
        now = actions[np.arange(len(flat)), done].reshape(-1, *self.action_space.shape)
        return (
            now if batched else now[0],
            Plan(actions, done + 1, past, own, age + 1),
        )

    @torch.no_grad()
    def _decide(
        self, past: np.ndarray, codes: np.ndarray, deterministic: bool, chosen: bool = False
    ) -> np.ndarray:
        """Chunks within the box ``(B, T, A)``; `chosen`: the caller gave the codes."""
        inputs = torch.as_tensor(past.reshape(len(past), -1), device=self.device)
        given = torch.as_tensor(codes, device=self.device) if self.density.code_dim else None
        noise = self.noise.generator(self.device)
        if deterministic and not chosen and self.fixed_seed is not None:
            noise = torch.Generator(self.device).manual_seed(self.fixed_seed)
        decide = self._with_codes if chosen else self._choose
        return decide(inputs, given, noise, deterministic).cpu().numpy()

    def _choose(
        self, inputs: Tensor, codes: Tensor | None, noise: Noise, deterministic: bool
    ) -> Tensor:
        """Chunks ``(B, T, A)`` at inputs ``(B, H · D)``, by fresh codes that may be kept."""
        if not deterministic:
            return self._with_codes(inputs, codes, noise, deterministic)
        return self.chunks(self.density(self.context(inputs)).mode(self.num_candidates))

    def _with_codes(
        self, inputs: Tensor, codes: Tensor | None, noise: Noise, deterministic: bool
    ) -> Tensor:
        """Chunks ``(B, T, A)`` with these codes; deterministic ones without the decoder's noise."""
        noisy = False if deterministic else None
        return self.chunks(self.draw(self.context(inputs), codes, noise, noisy))

    def _fresh_codes(self, count: int, noise: Noise) -> Tensor:
        codes = draw_held_codes(self.density, (count,), noise)
        return torch.cat((codes[:, :1], codes[:, 1:] * self.latent_temperature), dim=1)

    @property
    def acts_by_codes(self) -> bool:
        """Whether a drawn decision begins with latent codes."""
        return self.density.code_dim > 0

    @property
    def rhythm(self) -> Rhythm:
        """Chunks, and latents kept for as long as `latent` says."""
        if self.latent == "decision":
            return Rhythm(self.history, self.chunk, self.execute)
        hold = self.chunk if self.latent == "chunk" else EPISODE
        return Rhythm(self.history, self.chunk, self.execute, self.density.code_dim, hold)

    def decision(self, obs: PyTorchObs, noise: Noise, deterministic: bool = False) -> Tensor:
        inputs = inputs_of(obs, self.observation_space, self.history)
        coded = self.acts_by_codes and not deterministic
        codes = self._fresh_codes(inputs.shape[0], noise) if coded else None
        actions = self._choose(inputs, codes, noise, deterministic)
        return actions.reshape(-1, self.chunk, *self.action_space.shape)

    def answer(self, observations: Any, deterministic: bool = False) -> np.ndarray:
        rows = inputs_of(observations, self.observation_space, self.history)
        codes = np.zeros((len(rows), 0), np.float32)
        if self.density.code_dim:
            codes = self._fresh_codes(len(rows), self.noise.generator(self.device)).cpu().numpy()
        actions = self._decide(rows.numpy(), codes, deterministic)
        return actions.reshape(-1, self.chunk, *self.action_space.shape)

    def _codes(
        self, plan: Plan, start: np.ndarray, due: np.ndarray, given: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The codes of every row, redrawn where their time is over, and their ages."""
        size = self.density.code_dim
        if given is not None:
            return self.check_codes(given, len(plan.age)).cpu().numpy(), plan.age
        over = {
            "decision": due,
            "chunk": start | (due & (plan.age >= self.chunk)),
            "episode": start,
        }[self.latent]
        if not size or not over.any():
            return plan.codes, plan.age
        fresh = self._fresh_codes(len(over), self.noise.generator(self.device))
        return (
            np.where(over[:, None], fresh.cpu().numpy(), plan.codes),
            np.where(over, 0, plan.age),
        )

    def _begin(self, flat: np.ndarray) -> Plan:
        rows = len(flat)
        return Plan(
            np.zeros((rows, self.chunk, self.action_dim), np.float32),
            np.full(rows, self.execute),
            np.repeat(flat[:, None], self.history, axis=1),
            np.zeros((rows, self.density.code_dim), np.float32),
            np.zeros(rows, np.int64),
        )

    def _check_state(self, state: Any, rows: int) -> Plan:
        expected = [
            array.shape for array in self._begin(np.zeros((rows, self.obs_dim // self.history)))
        ]
        found = [np.shape(array) for array in state] if isinstance(state, tuple | list) else state
        if found != expected:
            raise ValueError(
                f"state: got {found}, expected arrays {expected} as `predict` returned"
            )
        return Plan(*(np.asarray(array) for array in state))

    def _flat(self, observation: Observations) -> tuple[np.ndarray, bool]:
        """Observations as rows of numbers ``(B, D)``, and whether they came as a batch."""
        space = self.observation_space
        if isinstance(space, spaces.Dict):
            if not isinstance(observation, dict):
                raise ValueError("observation: got one array, expected a dict of the space's keys")
            first = next(iter(space.spaces))
            batched = np.ndim(observation[first]) > len(space[first].shape or ())
            return flatten_rows(observation, batched), batched
        batched = np.asarray(observation).ndim > len(space.shape or ())
        return flatten_rows(observation, batched), batched

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        """The first action of a new chunk at inputs ``(B, D)``."""
        past = observation.cpu().numpy()[:, None].repeat(self.history, axis=1)
        codes = np.zeros((len(past), self.density.code_dim), np.float32)
        return torch.as_tensor(self._decide(past, codes, deterministic)[:, 0], device=self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | self.options
