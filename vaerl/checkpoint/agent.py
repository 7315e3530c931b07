"""An agent as pure data: which class, built with which arguments, on which spaces.

Classes go by a name that this module knows, never by a dotted path out of the file. What cannot be
written as pure data is refused when the checkpoint is saved, by the name of its argument.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from stable_baselines3 import A2C, DDPG, PPO, SAC, TD3, HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import (
    DictReplayBuffer,
    DictRolloutBuffer,
    NStepReplayBuffer,
    ReplayBuffer,
    RolloutBuffer,
)
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.common.type_aliases import TrainFreq
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule
from stable_baselines3.her import GoalSelectionStrategy
from torch import nn, optim

from vaerl.checkpoint.spaces import space_from_json, space_to_json
from vaerl.disk import jsonio
from vaerl.disk.errors import VaerlLoadError, one_line
from vaerl.disk.jsonio import take
from vaerl.names import did_you_mean

_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU)
_BOUNDED = (nn.Tanh, nn.Sigmoid, nn.Hardtanh, nn.Softplus, nn.Mish, nn.Identity)
_OPTIMIZERS = (optim.Adam, optim.AdamW, optim.NAdam, optim.RAdam, optim.SGD, optim.RMSprop)
_EXTRACTORS = (FlattenExtractor, NatureCNN, CombinedExtractor)
_BUFFERS = (ReplayBuffer, DictReplayBuffer, NStepReplayBuffer, HerReplayBuffer)
_CLASSES: tuple[type, ...] = (
    *_ACTIVATIONS,
    *_BOUNDED,
    *_OPTIMIZERS,
    RMSpropTFLike,
    *_EXTRACTORS,
    *_BUFFERS,
    RolloutBuffer,
    DictRolloutBuffer,
)
NAMED: dict[str, type] = {cls.__name__: cls for cls in _CLASSES}
_NAME_OF = {cls: name for name, cls in NAMED.items()}
_LEGAL = (
    "a checkpoint holds None, bool, int, finite float, str, lists and dicts of these, "
    "linear schedules, and the named classes of torch and stable-baselines3 (ReLU, Adam, …)"
)
# Arguments that the loader or the machine decides.
_NOT_STORED = {"self", "policy", "env", "device", "tensorboard_log", "_init_setup_model"}
# Arguments that A2C turns into policy_kwargs and forgets: the stored policy_kwargs have them.
_SPENT = {"use_rms_prop": False, "rms_prop_eps": 1e-5}
_BUFFER_CLASSES = {"replay_buffer_class", "rollout_buffer_class"}


def agent_classes() -> dict[str, type[BaseAlgorithm]]:
    """Every class that a checkpoint may name."""
    from vaerl.agents import agent_class, agent_names

    plain = {"sb3-sac": SAC, "sb3-ppo": PPO, "sb3-a2c": A2C, "sb3-td3": TD3, "sb3-ddpg": DDPG}
    return {**plain, **{name: agent_class(name) for name in agent_names()}}


def policy_classes() -> dict[str, type]:
    """Policies that a checkpoint may name beside the aliases of the agent's own class."""
    from vaerl import policies

    return {"vaerl-sac": policies.SACPolicy, "vaerl-actor-critic": policies.ActorCriticPolicy}


def agent_name_of(agent: BaseAlgorithm) -> str:
    """The registered name of an agent's class; ValueError if it has none."""
    for name, cls in agent_classes().items():
        if type(agent) is cls:
            return name
    raise ValueError(
        f"agent {type(agent).__name__} has no registered name, so no checkpoint could be loaded "
        f"again; known: {', '.join(sorted(agent_classes()))}"
    )


def describe_agent(agent: BaseAlgorithm, agent_name: str | None = None) -> dict[str, Any]:
    """Pure data from which `build_agent` makes an agent of the same shape.

    Raises ValueError, naming the argument, if something is not pure data.
    """
    name = agent_name_of(agent) if agent_name is None else agent_name
    cls = agent_classes().get(name)
    if cls is not type(agent):
        meant = f"names {cls.__name__}" if cls else did_you_mean(name, agent_classes())
        raise ValueError(f"agent_name {name!r} {meant}; the agent is a {type(agent).__name__}")
    return {
        "name": name,
        "policy": _policy_name(agent),
        "arguments": {
            argument: _encode(_argument(agent, argument), argument)
            for argument in constructor_arguments(type(agent))
            if argument not in _NOT_STORED
        },
        "observation_space": space_to_json(agent.observation_space),
        "action_space": space_to_json(agent.action_space),
        "n_envs": int(agent.n_envs),
    }


def constructor_arguments(cls: type) -> list[str]:
    """Names that `cls(...)` takes, through `**kwargs` up to the bases."""
    names: dict[str, None] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base) or base is object:
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        rest = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        names |= {p.name: None for p in parameters if p.kind not in rest}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return list(names)


def _argument(agent: BaseAlgorithm, name: str) -> Any:
    for attribute in (name, f"_{name}"):
        if hasattr(agent, attribute):
            value = getattr(agent, attribute)
            if name in _BUFFER_CLASSES and value not in _NAME_OF:
                return None if _is_own(value) else value  # vaerl's agents choose theirs again
            return value
    if name in _SPENT:
        return _SPENT[name]
    raise ValueError(f"{type(agent).__name__} keeps no attribute for its argument {name!r}")


def _is_own(cls: Any) -> bool:
    return isinstance(cls, type) and cls.__module__.startswith("vaerl.")


def _policy_name(agent: BaseAlgorithm) -> str:
    aliases = [name for name, cls in agent.policy_aliases.items() if cls is agent.policy_class]
    density = (agent.policy_kwargs or {}).get("density")
    if density in aliases:
        return density
    if aliases:
        return aliases[0]
    for name, cls in policy_classes().items():
        if cls is agent.policy_class:
            return name
    raise ValueError(
        f"policy {agent.policy_class.__name__} has no registered name; a checkpoint can hold "
        f"{', '.join([*agent.policy_aliases, *policy_classes()])}"
    )


def _encode(value: Any, where: str) -> Any:
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
    if isinstance(value, LinearSchedule):
        return {"schedule": [float(value.start), float(value.end), float(value.end_fraction)]}
    if isinstance(value, type) and value in _NAME_OF:
        return {"class": _NAME_OF[value]}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        if set(value) in ({"class"}, {"schedule"}):
            raise ValueError(f"{where}: a dict with the one key {next(iter(value))!r} is reserved")
        return {key: _encode(item, f"{where}:{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item, f"{where}[{index}]") for index, item in enumerate(value)]
    try:
        jsonio.check_pure(value, where)
    except ValueError:
        shown = one_line(repr(value), 80)
        raise ValueError(f"{where}: {shown} is not pure data; {_LEGAL}") from None
    return value


def _decode(value: Any, where: str) -> Any:
    if isinstance(value, dict):
        if set(value) == {"class"}:
            name = take(value, "class", str, where)
            if name not in NAMED:
                raise VaerlLoadError(f"{where}: class {name!r}; {did_you_mean(name, NAMED)}")
            return NAMED[name]
        if set(value) == {"schedule"}:
            numbers = value["schedule"]
            if not (isinstance(numbers, list) and [type(n) for n in numbers] == [float] * 3):
                raise VaerlLoadError(f"{where}:schedule: expected start, end and end_fraction")
            return LinearSchedule(*numbers)
        return {key: _decode(item, f"{where}:{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_decode(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if type(value) is int and abs(value) > 2**40:
        raise VaerlLoadError(f"{where}: {value} is larger than anything an agent takes")
    return value


def build_agent(data: Any, env: Any, device: str, elements: int, where: str) -> BaseAlgorithm:
    """A fresh agent as described, on `env` or, without one, on the described spaces.

    `elements` is the number of stored parameters: a description that asks for far more of them is
    refused before the memory is touched. Leaves the seeds of `env` as they are.

    Raises VaerlLoadError for anything that does not fit.
    """
    classes = agent_classes()
    name = take(data, "name", str, where)
    if name not in classes:
        raise VaerlLoadError(f"{where}:name: {name!r}; {did_you_mean(name, classes)}")
    cls: Any = classes[name]
    policy = take(data, "policy", str, where)
    others = policy_classes()
    if policy not in cls.policy_aliases and policy not in others:
        known = [*cls.policy_aliases, *others]
        raise VaerlLoadError(f"{where}:policy: {policy!r}; {did_you_mean(policy, known)}")
    observation_space = space_from_json(data.get("observation_space"), f"{where}:observation_space")
    action_space = space_from_json(data.get("action_space"), f"{where}:action_space")
    arguments = take(data, "arguments", dict, where)
    known_arguments = set(constructor_arguments(cls)) - _NOT_STORED
    for argument in arguments:
        if argument not in known_arguments:
            near = did_you_mean(argument, known_arguments)
            raise VaerlLoadError(f"{where}:arguments: {cls.__name__} takes no {argument!r}; {near}")
    arguments = {k: _decode(v, f"{where}:arguments:{k}") for k, v in arguments.items()}
    if isinstance(arguments.get("train_freq"), list):
        arguments["train_freq"] = tuple(arguments["train_freq"])
    if env is None and arguments.get("replay_buffer_class") is HerReplayBuffer:
        arguments |= {"replay_buffer_class": None, "replay_buffer_kwargs": None}
    seed = arguments.pop("seed", None)  # handed over late, so that building seeds nothing
    copies = take(data, "n_envs", int, where, 1, 4096)
    try:
        with parameter_limit(4 * elements + 2**20):
            agent = cls(
                policy=others.get(policy, policy),
                env=env,
                device=device,
                _init_setup_model=False,
                **arguments,
            )
            if env is None:
                agent.observation_space, agent.action_space = observation_space, action_space
                agent.n_envs = copies
            else:
                _check_spaces(agent, observation_space, action_space)
            agent._setup_model()
    except VaerlLoadError:
        raise
    except Exception as error:  # whatever unfit arguments raise inside the libraries
        raise VaerlLoadError(f"{where}: {cls.__name__} cannot be built: {error!r}") from error
    agent.seed = seed
    return agent


def _check_spaces(agent: BaseAlgorithm, observation_space: Any, action_space: Any) -> None:
    for what, wanted in (("observation", observation_space), ("action", action_space)):
        given = getattr(agent, f"{what}_space")
        if given != wanted:
            raise VaerlLoadError(
                f"{what} spaces do not match: the checkpoint has {one_line(wanted, 150)}, "
                f"the environment {one_line(given, 150)}"
            )


@contextlib.contextmanager
def parameter_limit(elements: int) -> Iterator[None]:
    """Refuse, in this thread, to register parameters and buffers of more than `elements` in all.

    >>> with parameter_limit(100):
    ...     layer = nn.Linear(1000, 1000)
    Traceback (most recent call last):
    vaerl.disk.errors.VaerlLoadError: the agent would have more than 100 parameters
    """
    left = elements
    thread = threading.get_ident()

    def count(module: nn.Module, name: str, tensor: torch.Tensor | None) -> None:
        nonlocal left
        if tensor is not None and threading.get_ident() == thread:
            left -= tensor.numel()
            if left < 0:
                raise VaerlLoadError(f"the agent would have more than {elements} parameters")

    handles = [
        nn.modules.module.register_module_parameter_registration_hook(count),
        nn.modules.module.register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
