"""The arguments of an agent's constructor, checked before anything is built.

The types come from the constructor, the ranges from `vaerl.agents.checked`. All else is for the
agent's class to check.
"""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vaerl.agents import agent_class
from vaerl.agents.checked import LEAST, MOST, constructor_arguments
from vaerl.agents.schedules import EXPECTED, PATTERN
from vaerl.names import check_name

# Arguments with a field of `TrainConfig`, and those that a run decides.
RESERVED = {"self", "policy", "density", "env", "seed", "device", "verbose", "tensorboard_log"}
RESERVED |= {"dynamics", "dynamics_kwargs", "data"}

SPACES = {"self", "observation_space", "action_space", "lr_schedule"}  # arguments of a policy


def check_agent_options(agent: str, options: Mapping[str, Any]) -> None:
    """Raise a ValueError of one line for an option or a value that `agent` does not take.

    >>> check_agent_options("sac", {"gamma": 0.9, "train_freq": [1, "episode"]})
    """
    legal = agent_options(agent)
    policies = getattr(agent_class(agent), "policy_aliases", None) or {}
    kinds = dict.fromkeys(reversed(policies.values()))
    arguments = {name: hint for cls in kinds for name, hint in constructor_arguments(cls).items()}
    for option, value in options.items():
        if option not in legal and option in set(arguments) - SPACES - RESERVED:
            raise ValueError(
                f"option of agent {agent}: got {option!r}, an option of its policy; put it into "
                "policy_kwargs"
            )
        check_name(f"option of agent {agent}", option, legal)
        _check_value(f"agent option {option}", value, legal[option], option)
    if policies:
        for name, value in (options.get("policy_kwargs") or {}).items():
            check_name("agent option policy_kwargs", name, set(arguments) - SPACES)
            _check_value(f"agent option policy_kwargs: {name}", value, arguments[name], name)


def _check_value(where: str, value: Any, hint: Any, option: str) -> None:
    numbers = value if isinstance(value, list | tuple) else [value]
    low, high = LEAST.get(option, -math.inf), MOST.get(option, math.inf)
    inside = all(low <= n <= high for n in numbers if isinstance(n, int | float))
    if not (inside and _fits(value, hint)):
        expected = " or ".join(dict.fromkeys(_words(hint, low, high)))
        raise ValueError(f"{where}: got {value!r}, expected {expected}")


def agent_options(name: str) -> dict[str, Any]:
    """Return the type of each constructor argument that `agent_options` may name.

    >>> agent_options("sac")["gamma"], "policy" in agent_options("sac")
    (<class 'float'>, False)
    """
    found = constructor_arguments(agent_class(name))
    return {
        option: hint
        for option, hint in found.items()
        if option not in RESERVED and not option.startswith("_")
    }


def _parts(hint: Any) -> tuple[Any, ...]:
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if union else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value that JSON can hold is of a type."""
    if len(_parts(hint)) > 1:
        return any(_fits(value, part) for part in _parts(hint))
    origin, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is Any or isinstance(origin, str) or origin is inspect.Parameter.empty:
        return True
    if origin is Callable:
        return isinstance(value, str) and PATTERN.fullmatch(value) is not None
    if origin is tuple:
        several = isinstance(value, list | tuple) and len(value) == len(inner)
        return several and all(map(_fits, value, inner))
    if origin is type:
        return isinstance(value, dict) and set(value) == {"class"}
    if origin is float:
        return isinstance(value, int | float) and type(value) is not bool and math.isfinite(value)
    return isinstance(value, origin) and (type(value) is not bool or origin is bool)


def _words(hint: Any, low: float, high: float) -> list[str]:
    """What a type and a range allow, in words."""
    span = f", {low:g} or more" if low > -math.inf else ""
    span = f" from {low:g} to {high:g}" if high < math.inf else span
    known: dict[Any, str] = {
        int: f"a whole number{span}",
        float: f"a number{span}",
        bool: "true or false",
        str: "a text",
        types.NoneType: "null",
        dict: "an object of arguments",
        Mapping: "an object of arguments",
        Sequence: f"a list of numbers{span}" if span else "a list",
        list: f"a list of numbers{span}" if span else "a list",
        type: '{"class": NAME}',
        tuple: '[a whole number, "step" or "episode"]',
        Callable: EXPECTED,
    }
    kinds = [typing.get_origin(part) or part for part in _parts(hint)]
    return [known[kind] for kind in kinds if kind in known]
