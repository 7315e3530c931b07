"""An actor-critic whose actor is a policy in chunks, so that PPO can go on from a clone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_wrapper
from torch import Tensor, nn

from vaerl.densities import ConditionalDensity, ConditionalValue
from vaerl.nets import mlp
from vaerl.policies.actor_critic import ActorCriticPolicy
from vaerl.policies.chunk import ChunkPolicy
from vaerl.policies.decisions import Decisions, Several
from vaerl.policies.distribution import DensityDistribution
from vaerl.policies.keep import clone_divergence, code_information
from vaerl.policies.noise import NoiseSource

NETWORK = ("chunk", "history", "density", "net_arch", "wavelengths", "wave_inputs")
"""Options of a `ChunkPolicy` that weights depend on."""


class Terms(NamedTuple):
    """Weights of what is paid at every state: entropy, likeness to the clone, use of the codes."""

    entropy: float
    clone: float
    codes: float


class ChunkActorCritic(ActorCriticPolicy):
    """Actor and critic over decisions: the actor is a `ChunkPolicy`, as behaviour cloning fits it.

    Training acts with the decoder's noise, through frozen codes; `predict` acts on the ordinary
    environment as `ChunkPolicy.predict` does, state included. A frozen copy of the actor is what
    was cloned.

    Args:
        chunk, execute, history, wavelengths, wave_inputs, sigma_floor, latent, latent_temperature,
            decoder_noise: as in `ChunkPolicy`.
        net_arch: widths of the actor's network between observation and density, and of the value's.
        others: as in `ActorCriticPolicy`.

    Raises:
        ValueError: a space that does not come from `Decisions`, or an option that is not legal.
    """

    observation_space: Several
    action_space: Several

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        chunk: int = 8,
        execute: int | None = None,
        history: int = 1,
        wavelengths: Sequence[float] = (8.0, 4.0, 2.0, 1.0),
        wave_inputs: Sequence[int] | None = None,
        sigma_floor: float = 0.3,
        latent: str = "decision",
        latent_temperature: float = 1.0,
        decoder_noise: bool = False,
        net_arch: Sequence[int] = (128, 128),
        **kwargs: Any,
    ) -> None:
        self._options: dict[str, Any] = {
            "chunk": chunk,
            "execute": execute,
            "history": history,
            "wavelengths": wavelengths,
            "wave_inputs": wave_inputs,
            "sigma_floor": sigma_floor,
            "latent": latent,
            "latent_temperature": latent_temperature,
            "decoder_noise": decoder_noise,
        }
        self.terms: Terms | None = None
        self.measured: dict[str, float] = {}
        super().__init__(
            observation_space, action_space, lr_schedule, net_arch=[*net_arch], **kwargs
        )

    @classmethod
    def decide(cls, env: VecEnv, policy_kwargs: Mapping[str, Any]) -> VecEnv:
        """The environment of the decisions that a policy with these options takes."""
        if unwrap_vec_wrapper(env, Decisions) is not None:
            return env
        sizes = {n: policy_kwargs.get(n) for n in ("chunk", "execute", "history")}
        probe = ChunkPolicy(
            env.observation_space,
            env.action_space,
            density="gaussian",
            net_arch=(),
            **{name: size for name, size in sizes.items() if size is not None},
        )
        return Decisions(env, probe.chunk, probe.execute, probe.history)

    def _build(self, lr_schedule: Schedule) -> None:
        """The actor, a copy of it, codes, value network; last the optimizer of all but the copy."""
        del self.action_dist  # SB3's Gaussian gives way to the density
        actor = ChunkPolicy(
            self.observation_space.single,
            self.action_space.single,
            density=self.density_name,
            density_kwargs=self.density_kwargs,
            net_arch=self.net_arch,  # type: ignore[arg-type]
            num_candidates=self.num_candidates,
            **self._options,
        )
        self.mlp_extractor = _Networks(actor, self.net_arch)  # type: ignore[assignment,arg-type]
        self.value_net = nn.Linear(self.mlp_extractor.latent_dim_vf, 1)
        self.clone = copy.deepcopy(actor).requires_grad_(False)
        self._build_codes_and_optimizer(lr_schedule)

    @property
    def chunks(self) -> ChunkPolicy:
        """The actor."""
        return self.mlp_extractor.actor  # type: ignore[return-value]

    @property
    def acting(self) -> ChunkPolicy:
        """The actor, on the ordinary environment."""
        return self.chunks

    @property
    def decoder_noise(self) -> bool:  # type: ignore[override]
        """Of the actor's `predict`; training always acts with it."""
        return self.chunks.decoder_noise

    @property
    def latent_temperature(self) -> float:  # type: ignore[override]
        """Of the actor's latents, also in training."""
        return self.chunks.latent_temperature

    @property
    def chunk(self) -> int:  # type: ignore[override]
        """Actions in an event of the density."""
        return self.chunks.chunk

    @property
    def event_units(self) -> str:  # type: ignore[override]
        """What an event of size 1 means."""
        return self.chunks.event_units

    @property
    def box_units(self) -> tuple[np.ndarray, np.ndarray]:
        """Middle and half width of the box of one action."""
        return self.chunks.box_units

    def context_at(self, observations: Any) -> Tensor:
        """What the actor's density is conditioned on, at ordinary observations."""
        return self.chunks.context_at(observations)

    def to_events(self, actions: np.ndarray) -> np.ndarray:
        """As the actor."""
        return self.chunks.to_events(actions)

    def to_actions(self, events: np.ndarray) -> np.ndarray:
        """As the actor."""
        return self.chunks.to_actions(events)

    @property
    def density(self) -> ConditionalDensity:  # type: ignore[override]
        """The actor's density over standardised chunks."""
        return self.chunks.density

    @property
    def noise(self) -> NoiseSource:  # type: ignore[override]
        """The actor's noise."""
        return self.chunks.noise

    @property
    def box_middle(self) -> Tensor:  # type: ignore[override]
        """The action at which a standardised chunk is 0, ``(T · A,)``."""
        return self.chunks.action_mean.repeat(self.chunks.chunk)

    @property
    def box_half(self) -> Tensor:  # type: ignore[override]
        """The unit of a standardised chunk, ``(T · A,)``."""
        return self.chunks.action_scale.repeat(self.chunks.chunk)

    def check_terms(self, terms: Terms) -> None:
        """Refuse a bonus on codes in one line where the density has no parts to tell apart."""
        context = torch.zeros(1, self.density.context_dim, device=self.device)
        act = self.density if self.codes is None else self._frozen(self.density)
        if terms.codes and not hasattr(act(context), "mixture"):
            raise ValueError(
                f"code_coef: got {terms.codes}, expected 0: density {self.density.name!r} has "
                "neither codes nor components"
            )

    def take_over(self, clone: ChunkPolicy) -> None:
        """Act exactly as `clone` does, its noise included, and remember it."""
        for name in NETWORK:
            ours, theirs = self.chunks.options[name], clone.options[name]
            if ours != theirs:
                raise ValueError(f"clone: got {name} {theirs!r}, the policy has {ours!r}")
        for part in (self.chunks, self.clone):
            part.load_state_dict(clone.state_dict())

    def evaluate_actions(
        self, obs: PyTorchObs, actions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values, log π, and what is paid at every state: the entropy, or the sum of `terms`."""
        if self.terms is None:
            return super().evaluate_actions(obs, actions)
        features = self.extract_features(obs)
        latent_pi, latent_vf = self.mlp_extractor(features)
        distribution = self._get_action_dist_from_latent(latent_pi)
        log_prob = distribution.log_prob(actions)
        return self.value_net(latent_vf), log_prob, self._paid(features, distribution)  # type: ignore[arg-type]

    def _paid(self, features: Tensor, distribution: DensityDistribution) -> Tensor:
        assert self.terms is not None
        value, generator = distribution.value, self.noise.generator(features.device)
        found: dict[str, Tensor] = {}
        paid = features.new_zeros(len(features))
        if self.terms.entropy:
            entropy = distribution.entropy()
            assert entropy is not None, "an agent with an entropy bonus samples for it"
            paid = paid + self.terms.entropy * entropy
        if self.terms.clone:
            then = self.clone.density if self.codes is None else self._frozen(self.clone.density)
            with torch.no_grad():
                cloned = then(self.clone.context(features))
            found["clone_divergence"] = clone_divergence(value, cloned, generator)
            paid = paid - self.terms.clone * found["clone_divergence"]
        if self.terms.codes:
            found["code_information"] = code_information(value, generator)
            paid = paid + self.terms.codes * found["code_information"]
        self.measured = {name: float(number.detach().mean()) for name, number in found.items()}
        return paid

    def _frozen(self, density: ConditionalDensity) -> Callable[[Tensor], ConditionalValue]:
        assert self.codes is not None
        return density.freeze(self.codes.codes)

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        codes: np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """The next action on the ordinary environment; see `ChunkPolicy.predict`."""
        return self.chunks.predict(observation, state, episode_start, deterministic, codes)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | self._options


class _Networks(nn.Module):
    """The actor's context, and a value network over the same features."""

    def __init__(self, actor: ChunkPolicy, widths: Sequence[int]) -> None:
        super().__init__()
        self.actor = actor
        self.value = mlp(actor.features_dim, widths)
        self.latent_dim_vf = widths[-1] if widths else actor.features_dim

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        return self.forward_actor(observations), self.forward_critic(observations)

    def forward_actor(self, observations: Tensor) -> Tensor:
        return self.actor.context(observations)

    def forward_critic(self, observations: Tensor) -> Tensor:
        return self.value(self.actor.features(observations))
