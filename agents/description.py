"""An agent as plain data, for a run's `config.json` and for checkpoints, and an agent from it.

Classes are named by entries of a list in this module, never by an import path from a file.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3 import A2C, DDPG, PPO, SAC, TD3, HerReplayBuffer
from stable_baselines3.common import buffers
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.common.type_aliases import TrainFreq
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from stable_baselines3.her import GoalSelectionStrategy
from torch import nn, optim

from vaerl.agents import AGENTS
from vaerl.agents.schedules import SCHEDULED, make_schedule, schedule_text
from vaerl.disk import jsonio
from vaerl.disk.errors import FOREIGN, one_line
from vaerl.envs.making import find_spec, make_env
from vaerl.names import check_name
from vaerl.policies import ActorCriticPolicy, SACPolicy
from vaerl.policies.chunk import ChunkPolicy
from vaerl.policies.standard import StandardFeatures

SB3_AGENTS: dict[str, type[BaseAlgorithm]] = {
    "sb3-sac": SAC,
    "sb3-ppo": PPO,
    "sb3-a2c": A2C,
    "sb3-td3": TD3,
    "sb3-ddpg": DDPG,
}
POLICIES: dict[str, type] = {
    "vaerl-sac": SACPolicy,
    "vaerl-actor-critic": ActorCriticPolicy,
    "vaerl-chunk": ChunkPolicy,
}
_LAYERS = ("ReLU", "ReLU6", "LeakyReLU", "ELU", "SELU", "CELU", "GELU", "SiLU", "Tanh", "Sigmoid")
_OPTIMIZERS = ("Adam", "AdamW", "NAdam", "RAdam", "SGD", "RMSprop")
_BUFFERS = ("ReplayBuffer", "DictReplayBuffer", "NStepReplayBuffer", "RolloutBuffer")
CLASSES: dict[str, type] = {
    **{name: getattr(nn, name) for name in (*_LAYERS, "Hardtanh", "Softplus", "Mish", "Identity")},
    **{name: getattr(optim, name) for name in _OPTIMIZERS},
    **{name: getattr(buffers, name) for name in (*_BUFFERS, "DictRolloutBuffer")},
    **{c.__name__: c for c in (FlattenExtractor, NatureCNN, CombinedExtractor, StandardFeatures)},
    **{c.__name__: c for c in (RMSpropTFLike, HerReplayBuffer)},
}
# What a constructor, or torch in it, raises for an argument that it cannot use.
REFUSALS = (TypeError, AssertionError, RuntimeError, MemoryError, OverflowError)
# Arguments with a field of their own, and those that the caller of `make_agent` chooses.
_NOT_OPTIONS = {"self", "policy", "env", "seed", "device", "tensorboard_log", "_init_setup_model"}
_NOT_OPTIONS |= {"data"}
# Arguments that A2C and SAC move into policy_kwargs, which are stored.
_SPENT: dict[str, Any] = {"use_rms_prop": False, "rms_prop_eps": 1e-5}
_SPENT |= {"critic": "sac", "critic_options": None, "normalize_observations": False}


@dataclass(frozen=True)
class AgentDescription:
    """Which agent, made with which arguments, on which environment.

    The fields are those of the same name in `vaerl.runs.TrainConfig`.
    """

    env: str
    """Gymnasium id; empty if the environment cannot be made again from an id and options."""
    agent: str
    """Algorithm: a name of `vaerl list agents`, or sb3-sac, sb3-ppo, sb3-a2c, sb3-td3, sb3-ddpg."""
    density: str
    """Density of the policy; for an agent of stable-baselines3 the policy's name."""
    density_options: dict[str, Any] = field(default_factory=dict)
    """Arguments of the density."""
    dynamics: str = ""
    """Density of the learned model, if the agent learns one of another kind than its policy."""
    dynamics_options: dict[str, Any] = field(default_factory=dict)
    """Arguments of that density."""
    agent_options: dict[str, Any] = field(default_factory=dict)
    """Arguments of the algorithm's constructor; {"class": NAME} stands for a class of `CLASSES`."""
    env_options: dict[str, Any] = field(default_factory=dict)
    """Arguments of gymnasium.make."""
    n_envs: int = 1
    """Copies of the environment that are stepped side by side."""

    def __post_init__(self) -> None:
        """Check the type of every field."""
        for item in fields(self):
            kind: Any = str if item.default is MISSING else type(item.default)
            kind = kind if item.default_factory is MISSING else dict
            if type(getattr(self, item.name)) is not kind:
                value = one_line(repr(getattr(self, item.name)), 60)
                raise ValueError(f"{item.name}: got {value}, expected {kind.__name__}")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AgentDescription:
        """Read the fields of a description out of a mapping that may hold more."""
        for name in ("env", "agent", "density"):
            if name not in data:
                raise ValueError(f"{name}: missing, expected a name")
        return cls(**{item.name: data[item.name] for item in fields(cls) if item.name in data})

    def unspent(self) -> AgentDescription:
        """Without arguments that the described agent had moved into its policy_kwargs."""
        held = self.agent_options.get("policy_kwargs") or {}
        kept = {k: v for k, v in self.agent_options.items() if not (k in _SPENT and k in held)}
        return replace(self, agent_options=kept)

    def make_env(self, copies: int) -> VecEnv:
        """Make copies of the described environment; ValueError asks for `env=` if that fails.

        As everywhere, no module that the id names is imported.
        """
        problem: object = "not made by gymnasium.make"
        if self.env:
            try:
                spec = find_spec(self.env)
                return DummyVecEnv([lambda: Monitor(make_env(spec, **self.env_options))] * copies)
            except gymnasium.error.Error:
                problem = "not registered here"
            except FOREIGN as error:  # whatever the environment raises for its options
                problem = error
        raise ValueError(f"env {self.env!r} cannot be made ({problem}); pass env=")


def make_agent(
    description: AgentDescription,
    env: VecEnv,
    *,
    seed: int | None = None,
    device: str = "auto",
    data: Any = None,
) -> BaseAlgorithm:
    """Build a fresh agent from its description.

    `data` are the demonstrations of an agent that learns from them. They are not part of the
    description: a loaded agent acts without them.

    Raises:
        ValueError: in one line, for arguments that the agent or its density refuses.
    """
    cls = _agent_class(description.agent)
    legal = constructor_arguments(cls)
    options: dict[str, Any] = {}
    for name, value in description.agent_options.items():
        check_name(f"option of agent {description.agent}", name, legal)
        options[name] = _decode(value, name)
    if description.density_options:
        given = {"density_kwargs": dict(description.density_options)}
        options["policy_kwargs"] = {**(options.get("policy_kwargs") or {}), **given}
    if description.dynamics and "dynamics" in legal:
        options["dynamics"] = description.dynamics
        options["dynamics_kwargs"] = dict(description.dynamics_options)
    if data is not None:
        options["data"] = data
    policy = POLICIES.get(description.density, description.density)
    try:
        return cls(policy, env, seed=seed, device=device, **with_schedules(options))
    except REFUSALS as error:
        raise ValueError(f"{description.agent} with {options}: {one_line(error)}") from error


def describe(agent: BaseAlgorithm) -> AgentDescription:
    """Return plain data from which `make_agent` builds an agent of the same shape.

    Raises ValueError, naming the argument, if something is not plain data.
    """
    options = {
        argument: encode(_argument(agent, argument), argument)
        for argument in constructor_arguments(type(agent))
    }
    env, env_options = _describe_env(agent.get_env())
    return AgentDescription(
        env=env,
        agent=_agent_name(agent),
        density=_policy_name(agent),
        density_options=(options.get("policy_kwargs") or {}).pop("density_kwargs", None) or {},
        dynamics=options.pop("dynamics", ""),
        dynamics_options=options.pop("dynamics_kwargs", {}),
        agent_options=options,
        env_options=env_options,
        n_envs=int(agent.n_envs),
    )


def with_schedules(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with texts such as "lin_1e-3" turned into schedules (`vaerl.agents.schedules`).

    >>> with_schedules({"learning_rate": "lin_1e-3", "gamma": 0.9})
    {'learning_rate': LinearSchedule(start=0.001, end=0.0, end_fraction=1.0), 'gamma': 0.9}
    """
    made = dict(options)
    for name in SCHEDULED:
        if isinstance(made.get(name), str):
            made[name] = make_schedule(name, made[name])
    return made


def constructor_arguments(cls: type) -> list[str]:
    """Names that a description may give to `cls(...)`, through `**kwargs` up to the bases."""
    names: dict[str, None] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base) or base is object:
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        rest = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        names |= {p.name: None for p in parameters if p.kind not in rest}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return [name for name in names if name not in _NOT_OPTIONS]


def _agent_class(name: str) -> Any:
    return SB3_AGENTS.get(name) or AGENTS.load(name)


def _agent_name(agent: BaseAlgorithm) -> str:
    for name, cls in SB3_AGENTS.items():
        if type(agent) is cls:
            return name
    if (registered := AGENTS.name_of(type(agent))) is not None:
        return registered
    known = [*SB3_AGENTS, *AGENTS.names()]
    raise ValueError(
        f"agent {type(agent).__name__} has no registered name, so no checkpoint could be loaded "
        f"again; known: {', '.join(known)}"
    )


def _policy_name(agent: BaseAlgorithm) -> str:
    aliases = [name for name, cls in agent.policy_aliases.items() if cls is agent.policy_class]
    names = aliases or [name for name, cls in POLICIES.items() if cls is agent.policy_class]
    if not names:
        raise ValueError(
            f"policy {agent.policy_class.__name__} has no registered name; a checkpoint can hold "
            f"{', '.join([*agent.policy_aliases, *POLICIES])}"
        )
    return (agent.policy_kwargs or {}).get("density", names[0]) if aliases else names[0]


def _describe_env(env: VecEnv | None) -> tuple[str, dict[str, Any]]:
    """Id and options with which gymnasium.make gives this environment again, else ("", {})."""
    spec = None if env is None else env.get_attr("spec", 0)[0]
    if spec is None or any(wrapper.name != "Monitor" for wrapper in spec.additional_wrappers):
        return "", {}
    options = {name: value for name, value in spec.kwargs.items() if name != "render_mode"}
    registered = gymnasium.registry.get(spec.id)
    if registered is not None and spec.max_episode_steps != registered.max_episode_steps:
        options["max_episode_steps"] = spec.max_episode_steps
    try:
        jsonio.dumps(options)
    except ValueError:
        return "", {}
    return spec.id, options


def _argument(agent: BaseAlgorithm, name: str) -> Any:
    if name in _SPENT:
        return _SPENT[name]
    for attribute in (name, f"_{name}"):
        if hasattr(agent, attribute):
            value = getattr(agent, attribute)
            # vaerl's agents choose their own buffer classes again.
            own = inspect.isclass(value) and value.__module__.startswith("vaerl.")
            return None if own and name.endswith("buffer_class") else value
    raise ValueError(f"{type(agent).__name__} keeps no attribute for its argument {name!r}")


def encode(value: Any, where: str) -> Any:
    """An argument as plain data, from which `make_agent` reads it again."""
    if isinstance(value, TrainFreq):
        return [value.frequency, value.unit.value]
    if isinstance(value, GoalSelectionStrategy):
        return value.name.lower()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, FloatSchedule):
        value = value.value_schedule
    if isinstance(value, ConstantSchedule):
        value = float(value.val)
    if (text := schedule_text(value)) is not None:
        return text
    if inspect.isclass(value) and CLASSES.get(value.__name__) is value:
        return {"class": value.__name__}
    if isinstance(value, dict) and set(value) != {"class"}:
        return {key: encode(item, f"{where}:{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item, f"{where}:{index}") for index, item in enumerate(value)]
    jsonio.dumps(value, where=where)
    return value


def _decode(value: Any, where: str) -> Any:
    if isinstance(value, dict) and set(value) == {"class"}:
        return CLASSES[check_name(f"{where}: class", str(value["class"]), CLASSES)]
    if isinstance(value, dict):
        return {key: _decode(item, f"{where}:{key}") for key, item in value.items()}
    if isinstance(value, list):
        made = [_decode(item, f"{where}:{index}") for index, item in enumerate(value)]
        return tuple(made) if where == "train_freq" else made
    return value
