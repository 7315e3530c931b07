"""Planners by name: one line here per planner."""

from __future__ import annotations

import inspect
from typing import Any

from gymnasium import spaces

from vaerl.names import check_name
from vaerl.planning.actions import Actions, BoxActions, DiscreteActions
from vaerl.planning.planner import Planner
from vaerl.registry import Registry

PLANNERS = Registry(
    "planner",
    "vaerl.planners",
    {
        "random": (
            "vaerl.planning.planners:RandomShooting",
            "the best of many random action sequences",
        ),
        "cem": ("vaerl.planning.planners:CEM", "cross-entropy method"),
        "icem": ("vaerl.planning.planners:ICEM", "CEM with memory and coloured noise"),
        "mppi": ("vaerl.planning.planners:MPPI", "sequences weighted by exp(value / temperature)"),
    },
)


def planner_names() -> tuple[str, ...]:
    """Names that `make_planner` understands.

    >>> planner_names()[:4]
    ('random', 'cem', 'icem', 'mppi')
    """
    return PLANNERS.names()


def planner_options(name: str) -> tuple[str, ...]:
    """Names of the settings that a planner takes."""
    found: dict[str, None] = {}
    for cls in PLANNERS.load(name).__mro__:
        if issubclass(cls, Planner) and "__init__" in vars(cls):
            parameters = inspect.signature(vars(cls)["__init__"]).parameters.values()
            found |= {p.name: None for p in parameters if p.kind is p.KEYWORD_ONLY}
    return tuple(found)


def make_planner(name: str, actions: Actions | spaces.Space, **settings: Any) -> Planner:
    """A planner by name, over `actions` or a Gymnasium space: a finite Box or Discrete.

    Raises ValueError: an unknown name or setting (with the nearest match), or an illegal value.

    >>> make_planner("icem", spaces.Box(-2.0, 2.0, (1,)), horizon=12).horizon
    12
    """
    legal = planner_options(name)
    for setting in settings:
        check_name(f"setting of planner {name}", setting, legal)
    if isinstance(actions, spaces.Space):
        actions = space_actions(actions)
    return PLANNERS.load(name)(actions, **settings)


def space_actions(space: spaces.Space) -> Actions:
    """The actions of a Gymnasium space, as it counts and bounds them."""
    if isinstance(space, spaces.Discrete) and space.start == 0:
        return DiscreteActions(int(space.n))
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return BoxActions(space.low.tolist(), space.high.tolist())
    raise ValueError(f"action_space: got {space}, expected a Box of shape (A,) or Discrete from 0")
