"""Record demonstrations: a policy drives an environment, episode by episode."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from vaerl.checkpoint.rng import preserve_rng
from vaerl.data.demonstrations import (
    Array,
    Demonstrations,
    Episode,
    Observations,
    check_action_space,
    check_observation_space,
)
from vaerl.data.drivers import Act, Driver, as_driver, expert
from vaerl.data.folder import FolderWriter, read_folder
from vaerl.disk.versions import versions
from vaerl.envs.making import declared, make_env

MOST_REFUSED = 1000
"""Episodes in a row without one to keep, after which collecting gives up."""
SUCCESS = ("is_success", "success")
"""Names in `info` under which environments report success."""


def collect(
    env: str | gymnasium.Env,
    policy: Any,
    episodes: int,
    *,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    env_options: Mapping[str, Any] | None = None,
    noise: float | Sequence[float] | None = None,
    keep: Callable[[Episode], bool] | None = None,
    provenance: Mapping[str, Any] | None = None,
    on_episode: Callable[[int], None] | None = None,
) -> Demonstrations:
    """Record `episodes` episodes; each has its own seed, so an interrupted recording can continue.

    Args:
        env: Gymnasium id, or an environment.
        policy: "expert" for the environment's own expert, "random", an agent with `predict`, or a
            function; see `vaerl.data.drivers.as_driver`.
        episodes: how many to keep.
        out: folder for `FolderWriter`; episodes found there are kept and counted. None keeps all in
            memory.
        seed: episode i is reset with a seed spawned from (seed, i).
        env_options: arguments of `gymnasium.make`.
        noise: standard deviation of the noise on the actions that are carried out, as a number or
            for each dimension; the recorded actions have none. None takes the environment's
            `expert_noise` for its expert, otherwise 0.
        keep: which episodes to keep, such as `succeeded`; others are tried again with the next
            seed.
        provenance: plain data about the policy, stored with the data.
        on_episode: called with the number of episodes so far.

    Raises:
        ValueError: an action of another shape, not finite or outside the box; the line names the
            episode and the step. No episode worth keeping among `MOST_REFUSED` in a row.

    >>> found = collect("vaerl/Avoiding-v0", "expert", 2, seed=0)
    >>> len(found), bool(found[0].infos["is_success"][-1])
    (2, True)
    """
    if episodes < 1:
        raise ValueError(f"episodes: got {episodes!r}, expected a whole number of at least 1")
    options = dict(env_options or {})
    made = make_env(env, **options) if isinstance(env, str) else env
    spaces = check_observation_space(made.observation_space), check_action_space(made.action_space)
    name = made.spec.id if made.spec is not None else ""
    driver = as_driver(policy)
    if noise is None:
        noise = getattr(declared(made), "expert_noise", 0.0) if driver is expert else 0.0
    spread = _spread(noise, made.action_space)
    source = {
        **dict(provenance or {}),
        "seed": seed,
        "env_options": options,
        "noise": spread.tolist(),
        "versions": versions(),
    }
    recorder = _Recorder(made, driver, seed, spread)
    try:
        writer = FolderWriter(out, *spaces, env=name, provenance=source) if out else None
        found: list[Episode] = []
        numbers = writer.numbers if writer else []
        number = numbers[-1] + 1 if numbers else 0
        done, refused = len(numbers), 0
        with preserve_rng():
            while done < episodes:
                episode = recorder.record(number)
                if keep is not None and not keep(episode):
                    refused += 1
                    if refused == MOST_REFUSED:
                        raise ValueError(
                            f"episodes: none of the last {refused} is one to keep; {done} were kept"
                        )
                else:
                    Demonstrations([episode], *spaces, names=[f"episode {number}"])  # checks it
                    if writer:
                        writer.add(episode, number)
                    else:
                        found.append(episode)
                    done, refused = done + 1, 0
                    if on_episode:
                        on_episode(done)
                number += 1
        if writer:
            return read_folder(writer.path)
        return Demonstrations(found, *spaces, env=name, provenance=source)
    finally:
        if isinstance(env, str):
            made.close()


def succeeded(episode: Episode) -> bool:
    """Whether the environment reported success at the last step.

    Raises ValueError if it reports none at all.
    """
    for name in SUCCESS:
        if name in episode.infos:
            return bool(episode.infos[name][-1] > 0)
    raise ValueError(f"successes: the environment reports none; expected one of {SUCCESS} in info")


def _spread(noise: Any, box: Any) -> Array:
    """Standard deviations of the noise, in the shape of an action, or one number."""
    spread = np.asarray(noise, np.float64)
    legal = spread.shape in ((), box.shape) and bool((np.isfinite(spread) & (spread >= 0)).all())
    if not legal:
        raise ValueError(
            f"noise: got {noise!r}, expected numbers of at least 0: one, or {box.shape}"
        )
    return spread


class _Recorder:
    """Records any episode of an environment by its number."""

    def __init__(self, env: gymnasium.Env, driver: Driver, seed: int, spread: Array) -> None:
        self.env, self.driver, self.seed, self.spread = env, driver, seed, spread

    def record(self, number: int) -> Episode:
        words = np.random.SeedSequence((self.seed, number)).generate_state(2)
        env_seed, policy_seed = (int(word) for word in words)
        observation, _ = self.env.reset(seed=env_seed)
        rng = np.random.default_rng(policy_seed)
        return self._run(observation, self.driver(rng, self.env, number), rng, number)

    def _run(self, observation: Any, act: Act, rng: np.random.Generator, number: int) -> Episode:
        box: Any = self.env.action_space
        seen: list[Any] = [observation]
        actions: list[Array] = []
        rewards: list[float] = []
        infos: list[dict[str, float]] = []
        terminated = truncated = False
        while not (terminated or truncated):
            given = act(observation)
            try:
                action = np.asarray(given)
            except ValueError:  # rows of several lengths
                action = np.asarray(given, dtype=object)
            if action.shape != box.shape or not _is_finite(action):
                raise ValueError(
                    f"episode {number}, step {len(actions)}: got the action {action!r:.120}, "
                    f"expected finite numbers of shape {box.shape}"
                )
            action = moved = action.astype(box.dtype)
            if self.spread.any():
                drawn = action + self.spread * rng.normal(size=box.shape)
                moved = np.clip(drawn, box.low, box.high).astype(box.dtype)
            observation, reward, terminated, truncated, info = self.env.step(moved.copy())
            seen.append(observation)
            actions.append(action)
            rewards.append(float(reward))
            infos.append(_numeric(info))
        names = sorted({name for info in infos for name in info})
        return Episode(
            _stack(seen),
            np.stack(actions),
            np.array(rewards),
            bool(terminated),
            bool(truncated),
            {name: np.array([info.get(name, np.nan) for info in infos]) for name in names},
        )


def _is_finite(action: Array) -> bool:
    return action.dtype.kind in "fiub" and bool(np.isfinite(action).all())


def _stack(observations: list[Any]) -> Observations:
    if isinstance(observations[0], dict):
        return {k: np.stack([o[k] for o in observations]) for k in observations[0]}
    return np.stack(observations)


def _numeric(info: Mapping[str, Any]) -> dict[str, float]:
    kinds = int | float | np.integer | np.floating | np.bool_
    return {key: float(value) for key, value in info.items() if isinstance(value, kinds)}
