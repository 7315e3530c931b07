"""Values of an agent's constructor arguments, checked before anything is built.

Stable-Baselines3 finds out late about many of them, or with words that name neither the argument
nor what is legal. Arguments without a row here are the agent's own to check.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from vaerl.agents import agent_class
from vaerl.agents.temperature import annealing, entropy_target
from vaerl.names import check_name

# Arguments of an agent's constructor that have a field of their own, or none.
RESERVED = {"self", "policy", "density", "env", "seed", "device", "verbose", "tensorboard_log"}
RESERVED |= {"dynamics", "dynamics_kwargs"}


class Rule(NamedTuple):
    """What a value may be, in words and as a test."""

    legal: str
    fits: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _whole(least: int) -> Rule:
    return Rule(f"a whole number, {least} or more", lambda value: _is_whole(value, least))


def _number(
    low: float = -math.inf, high: float = math.inf, words: tuple[str | None, ...] = ()
) -> Rule:
    """A number, or one of the `words` that leave the argument to the agent."""
    legal = "a number"
    if high < math.inf:
        legal += f" from {low:g} to {high:g}"
    elif low > -math.inf:
        legal += f", {low:g} or more"
    for word in words:
        legal += f", or {word or 'null'}"
    return Rule(legal, lambda v: low <= v <= high if _is_number(v) else v in words)


def _scheduled(number: Rule) -> Rule:
    """The same, or a schedule in words."""
    legal = f"{number.legal}, or lin_START[_END[_FRACTION]] for a line from one number to the other"
    return Rule(legal, lambda v: number.fits(v) or (isinstance(v, str) and _is_linear(v)))


def _is_linear(text: str) -> bool:
    head, *ends = text.split("_")
    try:
        return (
            head == "lin" and len(ends) in (1, 2, 3) and all(0 <= float(n) < math.inf for n in ends)
        )
    except ValueError:
        return False


def _is_train_freq(value: Any) -> bool:
    if isinstance(value, list | tuple) and len(value) == 2:
        return _is_whole(value[0], 1) and value[1] in ("step", "episode")
    return _is_whole(value, 1)


def _is_ent_coef(value: Any) -> bool:
    return _is_number_or(annealing, value)


def _is_target_entropy(value: Any) -> bool:
    return value == "auto" or _is_number_or(lambda text: entropy_target(text, 1), value)


def _is_number_or(read: Callable[[str], Any], value: Any) -> bool:
    """Whether a value is a finite number, or a text that can be read."""
    if not isinstance(value, str):
        return _is_number(value) and math.isfinite(value)
    try:
        read(value)
    except ValueError:
        return False
    return True


_OBJECT = Rule("an object of arguments", lambda value: isinstance(value, dict))
_OBJECT_OR_NULL = Rule(f"{_OBJECT.legal}, or null", lambda v: v is None or isinstance(v, dict))
_FLAG = Rule("true or false", lambda value: isinstance(value, bool))
_CODE = Rule("null: a Python object cannot be written here", lambda value: value is None)

RULES: dict[str, Rule] = {
    "action_noise": _CODE,
    "batch_size": _whole(1),
    "buffer_size": _whole(1),
    "clip_range": _scheduled(_number(0)),
    "clip_range_vf": _scheduled(_number(0, words=(None,))),
    "ent_coef": Rule(
        "a number, auto, auto_ and a positive number, or anneal_START_END[_FRACTION[_BEGIN]]",
        _is_ent_coef,
    ),
    "gae_lambda": _number(0, 1),
    "gamma": _number(0, 1),
    "gradient_steps": _whole(-1),
    "learning_rate": _scheduled(_number(0)),
    "learning_starts": _whole(0),
    "max_grad_norm": _number(0),
    "n_epochs": _whole(1),
    "n_steps": _whole(1),
    "normalize_advantage": _FLAG,
    "optimize_memory_usage": _FLAG,
    "policy_kwargs": _OBJECT,
    "relative_entropy": _FLAG,
    "replay_buffer_class": _CODE,
    "replay_buffer_kwargs": _OBJECT_OR_NULL,
    "rollout_buffer_class": _CODE,
    "stats_window_size": _whole(1),
    "target_entropy": Rule("a number, auto, or modes_M for M modes", _is_target_entropy),
    "target_kl": _number(0, words=(None,)),
    "target_update_interval": _whole(1),
    "tau": _number(0, 1),
    "train_freq": Rule(
        'a whole number, 1 or more, or [number, "step"] or [number, "episode"]', _is_train_freq
    ),
    "vf_coef": _number(0),
}


def check_agent_options(agent: str, options: Mapping[str, Any]) -> None:
    """Raise a ValueError of one line for an option or a value that `agent` does not take.

    >>> check_agent_options("sac", {"gamma": 0.9, "train_freq": [1, "episode"]})
    """
    legal = agent_options(agent)
    for option, value in options.items():
        check_name(f"option of agent {agent}", option, legal)
        if option in RULES and not RULES[option].fits(value):
            raise ValueError(
                f"agent option {option}: got {value!r}, expected {RULES[option].legal}"
            )
    if options.get("optimize_memory_usage"):
        _check_memory(agent, options.get("replay_buffer_kwargs") or {})
    policies = getattr(agent_class(agent), "policy_aliases", None)
    if policies:
        names = set(inspect.signature(next(iter(policies.values())).__init__).parameters)
        for name in options.get("policy_kwargs", {}):
            check_name("agent option policy_kwargs: argument", name, names - {"self"})


def _check_memory(agent: str, buffer_kwargs: Mapping[str, Any]) -> None:
    """SB3's buffer keeps an observation once, and tells ends by a time limit apart, not both."""
    legal = "false: its model is fitted to next observations, which are not kept then"
    if agent != "mbpo":
        if not buffer_kwargs.get("handle_timeout_termination", True):
            return
        legal = (
            'false, or beside it replay_buffer_kwargs={"handle_timeout_termination": false}, '
            "where an end by a time limit counts as a terminal state"
        )
    raise ValueError(f"agent option optimize_memory_usage: got True, expected {legal}")


def agent_options(name: str) -> set[str]:
    """Return the constructor arguments of an agent that `agent_options` may name.

    >>> {"learning_rate", "gamma"} <= agent_options("sac"), "policy" in agent_options("sac")
    (True, False)
    """
    found: set[str] = set()
    for cls in agent_class(name).__mro__:
        if "__init__" not in vars(cls):
            continue
        parameters = inspect.signature(vars(cls)["__init__"]).parameters.values()
        found |= {p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
        found |= {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break  # what stands further up is set by this class
    return {option for option in found - RESERVED if not option.startswith("_")}
