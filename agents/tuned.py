"""Settings by environment that ship with the package: which ones, from where, and what chose them.

They stand in `tuned.toml`, to be read as it is. An entry is "untested", a starting point from a
published recipe, "run" here, or "chosen" from others by the run that it names.

>>> settings = tuned("HalfCheetah-v5", recipe="crossq")
>>> settings.agent, settings.options["policy_delay"]
('sac', 3)
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium

from vaerl.agents import AGENTS
from vaerl.densities import DENSITIES
from vaerl.densities.options import check_choice
from vaerl.names import check_name

STATUSES = ("untested", "run", "chosen")
FILE = Path(__file__).with_name("tuned.toml")


@dataclass(frozen=True)
class Tuned:
    """An entry: the arguments of an agent for some environments and densities."""

    recipe: str
    """Name: sac, crossq, simba or ppo."""
    agent: str
    """Which agent takes them."""
    envs: Sequence[str]
    """Gymnasium ids."""
    densities: Sequence[str]
    """Densities of the policy."""
    status: str
    """"untested", "run" or "chosen"."""
    source: str
    """Where the settings come from."""
    run: str = ""
    """The run here: its record, seeds, results, and what they were chosen from."""
    note: str = ""
    """What to know about them."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the constructor."""

    def __post_init__(self) -> None:
        """Check the status against what the entry says of its origin."""
        check_choice("status", self.status, STATUSES)
        if (self.status == "untested") == bool(self.run):
            raise ValueError(
                f"run: got {self.run!r} with status {self.status!r}, expected none where settings "
                "are untested, and one otherwise"
            )

    @property
    def origin(self) -> str:
        """In one line."""
        where = self.run or self.source
        return f"{self.recipe} ({self.status}: {where}){f'; {self.note}' if self.note else ''}"


@cache
def tuned_entries() -> tuple[Tuned, ...]:
    """All entries, in the order of the file; for an agent the first that fits is its best."""
    with FILE.open("rb") as file:
        whole = tomllib.load(file)
    names = [item.name for item in fields(Tuned)]
    for row in (rows := whole["settings"]):
        if common := row.pop("common", ""):
            row["options"] = {**whole["common"][common], **row.get("options", {})}
        for name in row:
            check_name(f"{FILE.name}: key", name, names)
    return tuple(Tuned(**row) for row in rows)


def tuned(env: str, agent: str = "", density: str = "", recipe: str = "") -> Tuned:
    """The settings for an environment, of an agent or a recipe.

    Args:
        env: Gymnasium id.
        agent: as in `vaerl list agents`; any if empty.
        density: of the policy; any if empty, and then the first of the entry is meant.
        recipe: sac, crossq, simba or ppo; the first of the agent's if empty.

    Raises:
        ValueError: an unknown name, or there are none; the line names what there is.
    """
    entries = tuned_entries()
    agent, density, recipe = agent or "", density or "", recipe or ""
    given = {"recipe": recipe, "agent": agent, "density": density}
    known = {entry.recipe for entry in entries}, AGENTS.names(), DENSITIES.names()
    for (what, name), names in zip(given.items(), known, strict=True):
        if name:
            check_name(what, name, names)
    places = sorted({name for entry in entries for name in entry.envs})
    if env not in places and env in gymnasium.registry:
        raise ValueError(
            f"tuned: got env {env!r}, for which there are none, expected one of {', '.join(places)}"
        )
    check_name("tuned settings for env", env, places)
    there = [entry for entry in entries if env in entry.envs]
    for entry in there:
        fits = agent in ("", entry.agent) and recipe in ("", entry.recipe)
        if fits and (not density or density in entry.densities):
            return replace(entry, options=deepcopy(entry.options))  # the caller's own
    wanted = " and ".join(f"{what} {name!r}" for what, name in given.items() if name)
    raise ValueError(f"tuned: got {wanted} for {env}, expected one of: {_listing(there)}")


def _listing(entries: Sequence[Tuned]) -> str:
    """Recipes, agents and densities in words.

    >>> _listing([entry for entry in tuned_entries() if "Pendulum-v1" in entry.envs][:2])
    'sac of agent sac with gaussian, crossq of agent sac with gaussian'
    """
    found: dict[tuple[str, str], dict[str, None]] = {}
    for entry in entries:
        found.setdefault((entry.recipe, entry.agent), {}).update(dict.fromkeys(entry.densities))
    return ", ".join(
        f"{recipe} of agent {agent} with {' or '.join(densities)}"
        for (recipe, agent), densities in found.items()
    )
