"""Shared by the agents: the policy argument, densities at observations, diagnostics of latents."""

from __future__ import annotations

import copy
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback, ConvertCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback
from torch import Tensor

from vaerl.agents.checked import Checked, check_keys
from vaerl.agents.finite import CheckFinite, named
from vaerl.densities import DENSITIES, ConditionalDensity, ConditionalValue
from vaerl.densities.options import check_flag
from vaerl.finite import check_actions
from vaerl.names import did_you_mean
from vaerl.policies.chunk import ChunkPolicy
from vaerl.policies.density_policy import DensityPolicy

Init = TypeVar("Init", bound=Callable[..., None])
Observation = np.ndarray | dict[str, np.ndarray]


def resolve_policy(
    policy: str | type[BasePolicy],
    policy_kwargs: dict[str, Any] | None,
    aliases: dict[str, type[BasePolicy]],
) -> tuple[str | type[BasePolicy], dict[str, Any]]:
    """Policy and keyword arguments as SB3 takes them; the caller's dict is copied, never changed.

    `policy` is a density's name, an alias of SB3 ("MlpPolicy", …; the density then comes from
    `policy_kwargs`) or a policy class. An unknown name raises one line with the nearest match.
    """
    if not isinstance(policy_kwargs, dict | None):
        raise ValueError(f"policy_kwargs: got {policy_kwargs!r:.60}, expected a dict")
    if not isinstance(policy, str | type):
        raise ValueError(f"policy: got {policy!r:.60}, expected a density's name or a policy class")
    kwargs = dict(policy_kwargs or {})
    kind = next(
        c for c in aliases["MultiInputPolicy"].__mro__ if c.__module__.startswith("stable_")
    )
    if isinstance(policy, type) and not issubclass(policy, kind):
        raise ValueError(
            f"policy: got {policy.__name__}, expected a subclass of SB3's {kind.__name__}"
        )
    if not isinstance(policy, str) or policy in aliases:
        return policy, kwargs
    if policy not in DENSITIES:
        known = [*DENSITIES.names(), *aliases]
        raise ValueError(f"policy: got {policy!r}, {did_you_mean(policy, known)}")
    if kwargs.setdefault("density", policy) != policy:
        raise ValueError(
            f"policy: got density {policy!r}, but policy_kwargs has density {kwargs['density']!r}; "
            "name one"
        )
    return aliases["MultiInputPolicy"], kwargs


PLAIN: Mapping[str, Any] = {"critic": "sac", "critic_options": {}, "normalize_observations": False}
"""Options of policies that agents take too, as they are where nobody names them."""


def for_policy(
    policy: str | type[BasePolicy], policy_kwargs: dict[str, Any], **given: Any
) -> dict[str, Any]:
    """`policy_kwargs` with those options of `PLAIN` that the agent was given; None: it was not.

    Raises ValueError for an option that `policy_kwargs` has otherwise, and for one that the policy
    does not take.
    """
    merged = dict(policy_kwargs)
    for name, value in given.items():
        if value is None:
            continue
        if isinstance(PLAIN[name], bool):
            check_flag(name, value)
        if merged.get(name, value) != value:
            raise ValueError(
                f"{name}: got {value!r}, but policy_kwargs has {merged[name]!r}; name one"
            )
        if value == PLAIN[name]:
            continue
        if isinstance(policy, type) and not issubclass(policy, DensityPolicy):
            raise ValueError(
                f"{name}: got {value!r} with policy {policy.__name__}, expected "
                f"{PLAIN[name]!r}, or a policy over a density"
            )
        merged[name] = value
    return merged


def signature_of(parent: type) -> Callable[[Init], Init]:
    """Let a constructor that hands ``*args, **kwargs`` on to `parent` show its parameters."""

    def show(init: Init) -> Init:
        own = inspect.signature(init).parameters.values()
        named = [p for p in own if p.kind is p.KEYWORD_ONLY and p.name != "policy_kwargs"]
        theirs = inspect.signature(parent.__init__).parameters.values()  # type: ignore[misc]
        init.__signature__ = inspect.Signature([*theirs, *named])  # type: ignore[attr-defined]
        return init

    return show


def taken_and_stored(
    policy: BasePolicy, actions: np.ndarray, noise: ActionNoise | None
) -> tuple[np.ndarray, np.ndarray]:
    """Actions in units of the box, to be taken, and scaled to [−1, 1], to be stored."""
    scaled = policy.scale_action(actions)
    if noise is not None:
        scaled = np.clip(scaled + noise(), -1.0, 1.0)
    return policy.unscale_action(scaled), scaled


@torch.no_grad()
def latent_diagnostics(
    density: ConditionalDensity,
    context: Tensor,
    k: int = 16,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Diagnostics of the latents on the density's own samples; ``{}`` if it is exact.

    ``bound_gap`` = mean(U_k − L_k) in nats; ``ess`` = effective sample size of the recognition
    network's proposals over their number; ``kl_layer_l``, ``active_units_l`` per layer, h_1 first.
    All 0-d.
    """
    value = density(context)
    if value.exact:
        return {}
    x, latents = value.rsample_with_latents((), generator)
    bounds = value.log_prob_bounds(x, k, latents, generator)
    _, info = density.loss(context, x, generator=generator)
    picked = {
        key: number
        for key, number in info.items()
        if key.startswith(("kl_layer_", "active_units_"))
    }
    return {"bound_gap": (bounds.upper - bounds.lower).mean(), "ess": info["ess_ratio"], **picked}


class Agent(Checked):
    """Attributes that a training run reads from the class of an agent; mixed in before the SB3
    class."""

    learns_model: ClassVar[bool] = False
    """Whether it learns a model of the environment: it then takes `dynamics`, a density's name."""
    plans: ClassVar[bool] = False
    """Whether it acts by planning in that model: it then has one density, that of the model."""
    takes_data: ClassVar[bool] = False
    """Whether it learns from demonstrations: its constructor then takes `data`."""
    needs_data: ClassVar[bool] = False
    """Whether it cannot learn without demonstrations."""
    default_steps: ClassVar[int] = 100_000
    """Steps of a run that names none; updates, where it learns from data."""
    debug_options: ClassVar[Mapping[str, Any]] = {}
    """Constructor arguments of a debug run, which tries everything within seconds."""
    env_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Constructor arguments of a run by environment; the longest prefix of its id counts."""
    improves_clones: ClassVar[bool] = False
    """Whether it can start from an agent of behaviour cloning, see `Improver`."""
    _last_obs: Any
    carried: ClassVar[tuple[str, ...]] = ()
    """Attributes besides SB3's that go on from step to step; a checkpoint holds them."""

    def _begin_episodes(self) -> None:
        """Forget what belongs to episodes that were cut: the environments have been reset."""

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        before = self._last_obs
        found = super()._setup_learn(*args, **kwargs)
        if self._last_obs is not before:
            self._begin_episodes()
        return found

    def learn(self, *args: Any, **kwargs: Any) -> Any:
        """As in SB3; a number that is not finite ends it and is named, see `NotFinite`."""
        try:
            with named(self):  # type: ignore[arg-type]
                return super().learn(*args, **kwargs)  # type: ignore[misc]
        finally:
            self._after_learning()

    def _after_learning(self) -> None:
        """Called when a training ends, however it does."""

    def _init_callback(self, callback: MaybeCallback, progress_bar: bool = False) -> BaseCallback:
        given = callback if isinstance(callback, list) else [callback]
        for one in given:
            if one is not None and not isinstance(one, BaseCallback) and not callable(one):
                raise ValueError(
                    f"callback: got {one!r:.60}, expected a BaseCallback of SB3, a function, a "
                    "list of them or None"
                )
        wrapped = [c if isinstance(c, BaseCallback) else ConvertCallback(c) for c in given]
        return super()._init_callback([CheckFinite(), *wrapped], progress_bar)  # type: ignore[misc]


class Improver(ABC):
    """An agent that can start from a clone; mixed in before the SB3 class."""

    improves_clones: ClassVar[bool] = True
    policy: Any

    @classmethod
    @abstractmethod
    def clone_options(cls, clone: Any) -> dict[str, Any]:
        """The constructor's arguments that fit the clone, as plain data; `policy` among them."""

    @abstractmethod
    def take_over(self, clone: Any) -> None:
        """Act as the clone does."""

    @classmethod
    def from_clone(cls, clone: Any, env: GymEnv | str | None = None, **options: Any) -> Any:
        """The agent that starts with the behaviour of a clone.

        Args:
            clone: an agent of behaviour cloning, fitted or loaded.
            env: where reward comes from; that of the clone if None.
            options: of the constructor; those in `policy_kwargs` override the clone's.

        Raises:
            ValueError: another kind of agent, or options that do not fit it.
        """
        own = cls.clone_options(clone)
        own["policy_kwargs"] |= options.pop("policy_kwargs", None) or {}
        agent: Any = cls(env=clone.get_env() if env is None else env, **{**own, **options})  # type: ignore[call-arg]
        agent.take_over(clone)
        return agent


def check_clone(clone: Any) -> ChunkPolicy:
    """The policy of a clone, or one line."""
    policy = getattr(clone, "policy", None)
    if not isinstance(policy, ChunkPolicy):
        raise ValueError(
            f"clone: got {type(clone).__name__}, expected an agent of behaviour cloning (BC)"
        )
    return policy


class DensityAgent(Agent):
    """Methods of an SB3 agent whose policy is a density; mixed in before the SB3 class."""

    kept: ClassVar[tuple[str, ...]] = tuple(PLAIN)
    policy: Any
    observation_space: spaces.Space
    action_space: spaces.Space
    logger: Any

    def density_value(self, obs: Observation) -> ConditionalValue:
        """π(a | s) at a numpy observation or a batch of them, batch shape ``(B,)``, no gradient.

        Events are actions in units of the box, whose bounds are ±1; a policy that squashes stays
        inside them. A snapshot: training on does not change it.
        """
        self._check_density()
        head = self._head
        density = copy.deepcopy(head.density).requires_grad_(False)
        with torch.no_grad():
            return density(head.context(self._tensors(obs)))

    def predict(
        self,
        observation: Observation,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        codes: np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """As in SB3; latent `codes` ``(E,)`` or ``(B, E)`` choose the way and keep it.

        Codes are drawn with ``agent.policy.head.density.draw_codes(count, seed)``.
        """
        check_keys(self.observation_space, observation)
        asked: tuple[Any, ...] = (observation, state, episode_start, deterministic)
        if codes is not None:  # which a policy of SB3 does not know
            self._check_density()
            asked = (*asked, codes)
        actions, state = self.policy.predict(*asked)
        check_actions(np.atleast_2d(actions))
        return actions, state

    def latent_diagnostics(self, obs: Observation) -> dict[str, float]:
        """Bound gap, ESS, KL and active units per layer at numpy observations; ``{}`` if exact."""
        return {key: float(number) for key, number in self._diagnose(self._tensors(obs)).items()}

    def _tensors(self, obs: Observation) -> Any:
        return self.policy.obs_to_tensor(obs)[0]

    def _diagnose(self, obs: Any) -> dict[str, Tensor]:
        self._check_density()
        with torch.no_grad():
            context = self._head.context(obs)
        generator = torch.Generator(context.device).manual_seed(0)  # diagnostics shift no stream
        return latent_diagnostics(self._head.density, context, generator=generator)

    @property
    def _head(self) -> Any:
        """The module that owns `density`, `noise` and `context(obs)`."""
        return getattr(self.policy, "actor", self.policy)

    def _check_density(self) -> None:
        if not isinstance(self.policy, DensityPolicy):
            raise ValueError(
                f"policy: got {type(self.policy).__name__}, expected one over a density: no other "
                "has codes and a density to look at"
            )

    def _log_latents(self, obs: Any) -> None:
        """Record the diagnostics under latent/…, if the policy has a latent density."""
        if not hasattr(self._head, "density"):
            return
        numbers = self._diagnose(obs)
        for key, number in numbers.items():
            self.logger.record(f"latent/{'ess_ratio' if key == 'ess' else key}", number.item())

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed everything as SB3 does, and the policy's own noise."""
        super().set_random_seed(seed)  # type: ignore[misc]
        policy = getattr(self, "policy", None)
        if seed is not None and policy is not None and hasattr(self._head, "noise"):
            self._head.noise.reseed(seed)
