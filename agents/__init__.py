"""Agents: Stable-Baselines3's algorithms over conditional densities. Classes load at first use.

>>> from vaerl.agents import SAC
>>> SAC.__name__
'SAC'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vaerl.registry import Registry

if TYPE_CHECKING:
    from vaerl.agents.a2c import A2C
    from vaerl.agents.bc import BC
    from vaerl.agents.idql import IDQL
    from vaerl.agents.iql import IQL
    from vaerl.agents.mbpo import MBPO
    from vaerl.agents.mpc import MPC
    from vaerl.agents.plas import PLAS
    from vaerl.agents.ppo import PPO
    from vaerl.agents.sac import SAC

AGENTS = Registry(
    "agent",
    "vaerl.agents",
    {
        "sac": ("vaerl.agents.sac:SAC", "soft actor-critic, off-policy"),
        "ppo": ("vaerl.agents.ppo:PPO", "proximal policy optimisation, on-policy"),
        "a2c": ("vaerl.agents.a2c:A2C", "advantage actor-critic, on-policy"),
        "mpc": ("vaerl.agents.mpc:MPC", "plans in a learned model"),
        "mbpo": (
            "vaerl.agents.mbpo:MBPO",
            "SAC that also learns from roll-outs of a learned model",
        ),
        "bc": ("vaerl.agents.bc:BC", "clones demonstrations, in chunks of actions"),
        "iql": (
            "vaerl.agents.iql:IQL",
            "learns from data with rewards: clones its better actions",
        ),
        "idql": ("vaerl.agents.idql:IDQL", "learns from data: the best by Q of draws from a clone"),
        "plas": ("vaerl.agents.plas:PLAS", "learns from data: acts in the latents of a clone"),
    },
)

__all__ = [
    "A2C",
    "AGENTS",
    "BC",
    "IDQL",
    "IQL",
    "MBPO",
    "MPC",
    "PLAS",
    "PPO",
    "SAC",
    "agent_class",
    "agent_names",
    "make_agent",
]


def agent_names() -> tuple[str, ...]:
    """Names that `agent_class` understands, without loading anything.

    >>> agent_names()[:3]
    ('sac', 'ppo', 'a2c')
    """
    return AGENTS.names()


def agent_class(name: str) -> Any:
    """The agent's class by name; an unknown name raises one line with the nearest match."""
    return AGENTS.load(name)


def make_agent(name: str, policy: Any, env: Any, **options: Any) -> Any:
    """An agent by name: ``make_agent("sac", "cvae", env, seed=0)``."""
    return agent_class(name)(policy, env, **options)


def __getattr__(name: str) -> Any:
    return AGENTS.attribute(name)
