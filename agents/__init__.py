"""Agents: Stable-Baselines3's algorithms over conditional densities. Classes load at first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vaerl.names import check_name

if TYPE_CHECKING:
    from vaerl.agents.mbpo import MBPO
    from vaerl.agents.mpc import MPC
    from vaerl.agents.ppo import PPO
    from vaerl.agents.sac import SAC

    AGENTS: dict[str, type]

_MODULES = {
    "sac": ("vaerl.agents.sac", "SAC"),
    "ppo": ("vaerl.agents.ppo", "PPO"),
    "mpc": ("vaerl.agents.mpc", "MPC"),
    "mbpo": ("vaerl.agents.mbpo", "MBPO"),
}

__all__ = ["AGENTS", "MBPO", "MPC", "PPO", "SAC", "agent_class", "agent_names", "make_agent"]


def agent_names() -> tuple[str, ...]:
    """Names that `agent_class` understands, without loading anything.

    >>> agent_names()
    ('sac', 'ppo', 'mpc', 'mbpo')
    """
    return tuple(_MODULES)


def agent_class(name: str) -> type:
    """The agent's class by name; an unknown name raises one line with the nearest match."""
    module, attribute = _MODULES[check_name("agent", name, _MODULES)]
    return getattr(import_module(module), attribute)


def make_agent(name: str, policy: Any, env: Any, **options: Any) -> Any:
    """An agent by name: ``make_agent("sac", "cvae", env, seed=0)``."""
    return agent_class(name)(policy, env, **options)


def __getattr__(name: str) -> Any:
    if name == "AGENTS":
        return {key: agent_class(key) for key in _MODULES}
    for module, attribute in _MODULES.values():
        if name == attribute:
            return getattr(import_module(module), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
