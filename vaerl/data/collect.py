"""Record demonstrations: a policy drives an environment, episode by episode."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import gymnasium
import numpy as np

from vaerl.data.demonstrations import Array, Demonstrations, Episode, Observations
from vaerl.data.folder import FolderWriter, read_folder

Act = Callable[[Any], Array]
"""An observation to an action of one episode."""


class Policy(Protocol):
    """Anything with Stable-Baselines3's `predict`."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None
    ) -> tuple[Array, Any]: ...


def collect(
    env: str | gymnasium.Env,
    policy: Policy | Callable[[np.random.Generator, gymnasium.Env], Act],
    episodes: int,
    *,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    env_options: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    keep: Callable[[Episode], bool] | None = None,
    on_episode: Callable[[int], None] | None = None,
) -> Demonstrations:
    """Record `episodes` episodes; each has a seed of its own, so a run that was cut goes on.

    Args:
        env: Gymnasium id, or an environment.
        policy: an agent with `predict`, or a function ``(rng, env) -> act`` that is called at the
            start of each episode, after the reset, and gives a function from observation to action.
        out: folder for `FolderWriter`; episodes found there are kept and counted. None keeps all in
            memory.
        seed: episode i is reset with a seed spawned from (seed, i).
        env_options: arguments of `gymnasium.make`.
        provenance: plain data about the policy, stored with the data.
        keep: which episodes to keep, for example only successful ones; others are tried again with
            the next seed.
        on_episode: called with the number of episodes so far.

    Raises:
        ValueError: an action of another shape, not finite or outside the box; the line names the
            episode and the step.
    """
    if episodes < 1:
        raise ValueError(f"episodes: got {episodes!r}, expected a whole number of at least 1")
    made = gymnasium.make(env, **dict(env_options or {})) if isinstance(env, str) else env
    name = made.spec.id if made.spec is not None else ""
    source = {**dict(provenance or {}), "seed": seed, "env_options": dict(env_options or {})}
    try:
        spaces = made.observation_space, made.action_space
        writer = FolderWriter(out, *spaces, env=name, provenance=source) if out else None
        found: list[Episode] = []
        numbers = writer.numbers if writer else []
        done = len(numbers)
        if writer and done >= episodes:
            return read_folder(writer.path)
        for number, episode in _episodes(made, policy, seed, numbers[-1] + 1 if numbers else 0):
            if keep is None or keep(episode):
                Demonstrations([episode], *spaces, names=[f"episode {number}"])  # checks it
                if writer:
                    writer.add(episode, number)
                else:
                    found.append(episode)
                done += 1
                if on_episode:
                    on_episode(done)
            if done >= episodes:
                break
        if writer:
            return read_folder(writer.path)
        return Demonstrations(found, *spaces, env=name, provenance=source)
    finally:
        if isinstance(env, str):
            made.close()


def _episodes(
    env: gymnasium.Env, policy: Any, seed: int, first: int
) -> Iterator[tuple[int, Episode]]:
    """Episodes without end, from number `first` on."""
    number = first
    while True:
        sequence = np.random.SeedSequence((seed, number))
        env_seed, policy_seed = (int(word) for word in sequence.generate_state(2))
        observation, _ = env.reset(seed=env_seed)
        act = _actor(policy, np.random.default_rng(policy_seed), env, policy_seed)
        yield number, _record(env, observation, act, number)
        number += 1


def _actor(policy: Any, rng: np.random.Generator, env: gymnasium.Env, seed: int) -> Act:
    if not hasattr(policy, "predict"):
        return policy(rng, env)
    if hasattr(policy, "set_random_seed"):
        policy.set_random_seed(seed)
    state: Any = None
    start = np.ones(1, dtype=bool)

    def act(observation: Any) -> Array:
        nonlocal state
        batch = (
            {key: np.asarray(value)[None] for key, value in observation.items()}
            if isinstance(observation, dict)
            else np.asarray(observation)[None]
        )
        action, state = policy.predict(batch, state, start.copy())
        start[:] = False
        return action[0]

    return act


def _record(env: gymnasium.Env, observation: Any, act: Act, number: int) -> Episode:
    box = env.action_space
    seen: list[Any] = [observation]
    actions: list[Array] = []
    rewards: list[float] = []
    infos: list[dict[str, float]] = []
    terminated = truncated = False
    while not (terminated or truncated):
        action = np.asarray(act(observation))
        if action.shape != box.shape or not np.isfinite(action).all():
            raise ValueError(
                f"episode {number}, step {len(actions)}: got the action {action!r:.120}, expected "
                f"finite numbers of shape {box.shape}"
            )
        action = action.astype(box.dtype)
        observation, reward, terminated, truncated, info = env.step(action)
        seen.append(observation)
        actions.append(action)
        rewards.append(float(reward))
        infos.append(_numeric(info))
    common = set.intersection(*(set(info) for info in infos))
    return Episode(
        _stack(seen),
        np.stack(actions),
        np.array(rewards),
        bool(terminated),
        bool(truncated),
        {key: np.array([info[key] for info in infos]) for key in sorted(common)},
    )


def _stack(observations: list[Any]) -> Observations:
    if isinstance(observations[0], dict):
        return {k: np.stack([o[k] for o in observations]) for k in observations[0]}
    return np.stack(observations)


def _numeric(info: Mapping[str, Any]) -> dict[str, float]:
    kinds = int | float | np.integer | np.floating | np.bool_
    return {key: float(value) for key, value in info.items() if isinstance(value, kinds)}
