"""Is a policy multimodal, and what does each of its latents do?"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vaerl.data import load_demonstrations
from vaerl.data.demonstrations import Demonstrations
from vaerl.densities.options import check_positive
from vaerl.disk import files, jsonio
from vaerl.inspection.away import DataNear
from vaerl.inspection.look import Look, look_at
from vaerl.inspection.modes import FEWEST
from vaerl.inspection.states import choose_states
from vaerl.inspection.subject import FunctionSubject, PolicySubject, Subject
from vaerl.inspection.ways import KEPT, Way, act_with_kept, has_map
from vaerl.threads import limit_threads

DRAWS = 8192
"""Draws at each state: a mode with a share of 1 % then has some 60 that decide."""
STATES = 6
EPISODES = 20
"""Roll-outs for each way to handle z."""


@dataclass(frozen=True)
class Inspection:
    """What was found, state by state and way by way."""

    name: str
    """Name of the density or function."""
    env: str
    env_options: Mapping[str, Any]
    units: str
    """What a spread of 1 means."""
    draws: int
    seed: int
    looks: tuple[Look, ...]
    ways: tuple[Way, ...]
    """Roll-outs; empty where the environment has no map."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "name": self.name,
            "env": self.env,
            "draws": self.draws,
            "seed": self.seed,
            "unit_of_spreads": self.units,
            "states": [look.to_dict() for look in self.looks],
            "rollouts": [way.to_dict() for way in self.ways],
        }

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the numbers as JSON."""
        path = files.check_file("out", path)
        files.make_directory(path.parent)
        return files.write_text(path, jsonio.dumps(self.to_dict(), indent=1) + "\n")


@limit_threads()
def inspect_policy(
    policy: Any,
    observations: Any = None,
    *,
    env: str = "",
    env_options: Mapping[str, Any] | None = None,
    data: Any = None,
    latent_size: int = 1,
    prior: str = "normal",
    states: int = STATES,
    draws: int = DRAWS,
    kept: int = KEPT,
    episodes: int = EPISODES,
    seed: int = 0,
    on_look: Callable[[str], None] = lambda name: None,
) -> Inspection:
    """Look at a policy at some states, and let it act with latents that are kept.

    Args:
        policy: an agent of vaerl or its policy, or a function f(observation, z) → action.
        observations: a batch of observations, or observations by name. By default those that the
            environment names, else some of the demonstrations, else some of one episode.
        env: Gymnasium id: where states come from, and roll-outs where it declares a map.
        env_options: arguments of `gymnasium.make`.
        data: demonstrations, or a source for `load_demonstrations`: how many draws lie away from
            them? For policies, not for functions.
        latent_size: numbers of z, for a function; 0 for f(observation).
        prior: law of z, for a function: "normal" or "uniform" (over [−1, 1]).
        states: most states to look at.
        draws: at each state.
        kept: latents that are kept through roll-outs.
        episodes: roll-outs with each of them; 0 for none.
        seed: of draws and roll-outs.
        on_look: called with the name of each state before it is looked at.

    Raises:
        ValueError: neither observations nor an environment nor data, or an option that is not
            legal.

    >>> two_ways = lambda observation, z: [1.0 if z[0] > 0 else -1.0]
    >>> found = inspect_policy(two_ways, np.zeros((1, 3)), latent_size=2, draws=2048)
    >>> found.looks[0].modes.count, [latent.modes for latent in found.looks[0].latents]
    (2, [2.0, 1.0])
    """
    check_positive("draws", draws, at_least=FEWEST)
    check_positive("states", states)
    check_positive("kept", kept, at_least=0)
    check_positive("episodes", episodes, at_least=0)
    options = dict(env_options or {})
    known = None if data is None else load_demonstrations(data, env)
    is_function = not hasattr(policy, "predict")
    if is_function and not callable(policy):
        raise ValueError(
            f"policy: got {type(policy).__name__}, expected an agent or f(observation, z)"
        )
    agent = None if is_function else policy
    chosen = choose_states(observations, env, options, known, agent, states, seed)
    subject: Subject = (
        FunctionSubject(policy, latent_size, prior, list(chosen.values()))
        if is_function
        else PolicySubject(policy)
    )
    near = _data_near(known, subject)
    looks = []
    for name, observation in chosen.items():
        on_look(name)
        looks.append(look_at(subject, name, observation, draws=draws, seed=seed, away=near))
    ways: tuple[Way, ...] = ()
    if env and episodes and has_map(env, options):
        on_look("roll-outs")
        ways = act_with_kept(subject, env, options, kept=kept, episodes=episodes, seed=seed)
    return Inspection(subject.name, env, options, subject.units, draws, seed, tuple(looks), ways)


def _data_near(
    data: Demonstrations | None, subject: Subject
) -> Callable[[Any, np.ndarray], float | None] | None:
    if data is None:
        return None
    if not isinstance(subject, PolicySubject):
        raise ValueError("data: got demonstrations with a function, expected a policy of vaerl")
    return DataNear(data, subject.policy).share_away
