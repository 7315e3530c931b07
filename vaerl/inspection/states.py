"""The states at which a policy is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vaerl.data.arrays import read_arrays
from vaerl.data.demonstrations import Demonstrations
from vaerl.envs.making import declared
from vaerl.runs.evaluate import own_randomness
from vaerl.runs.monitor import watched

MOST_STEPS = 1000
"""Steps of an episode from which states are taken."""


def choose_states(
    observations: Any,
    env: str,
    env_options: Mapping[str, Any],
    data: Demonstrations | None,
    agent: Any,
    count: int,
    seed: int,
) -> dict[str, Any]:
    """At most `count` observations by name, spread evenly over those there are.

    They come from `observations`, else from what the environment names, else from demonstrations,
    else from an episode of `agent`.
    """
    if observations is not None:
        return _spread(_named(observations), count)
    if env:
        with watched(env, env_options) as made:
            probes = getattr(declared(made), "probe_observations", None)
            if probes is not None:
                return _spread(probes(), count)
            if data is None and agent is not None:
                return _spread(_visited(made, agent, seed), count)
    if data is None:
        raise ValueError("observations: got none, expected some, or an environment that names some")
    moments = {
        f"episode {i}, step {t}": _row(episode.observations, t)
        for i, episode in enumerate(data)
        for t in range(len(episode))
    }
    return _spread(moments, count)


def read_observations(path: Path) -> Any:
    """Observations from an npy file, or from an npz file with an array for each key of a dict."""
    if not path.is_file():
        raise ValueError(f"observations: got {str(path)!r}, expected an npy or npz file")
    try:
        found = read_arrays(path)
    except ValueError as error:
        raise ValueError(f"observations: {error}") from error
    return found.get("", found)


def _named(observations: Any) -> dict[str, Any]:
    if isinstance(observations, Mapping):
        lengths = {len(np.atleast_1d(rows)) for rows in observations.values()}
        batch = all(np.ndim(rows) > 1 for rows in observations.values()) and len(lengths) == 1
        if not batch:
            return dict(observations)
        return {f"state {i}": _row(dict(observations), i) for i in range(lengths.pop())}
    rows = np.asarray(observations)
    if rows.ndim < 2 or not len(rows):
        raise ValueError(f"observations: got shape {rows.shape}, expected (N, …), one row a state")
    if not np.isfinite(rows).all():
        raise ValueError("observations: got NaN or an infinite number, expected finite numbers")
    return {f"state {i}": row for i, row in enumerate(rows)}


def _row(observations: Any, place: int) -> Any:
    if isinstance(observations, dict):
        return {key: rows[place] for key, rows in observations.items()}
    return observations[place]


def _spread(named: Mapping[str, Any], count: int) -> dict[str, Any]:
    names = list(named)
    places = np.unique(np.linspace(0, len(names) - 1, count).round().astype(int))
    return {names[place]: named[names[place]] for place in places}


def _visited(env: Any, agent: Any, seed: int) -> dict[str, Any]:
    """The observations of one episode."""
    seen: dict[str, Any] = {}
    with own_randomness(agent, seed):
        observation, _ = env.reset(seed=seed)
        carried: dict[str, Any] = {}
        for step in range(MOST_STEPS):
            seen[f"step {step}"] = observation
            action, state = agent.predict(observation, **carried)
            carried = {} if state is None else {"state": state}
            observation, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                break
    return seen
