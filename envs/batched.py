"""Batched simulators as VecEnvs of Stable-Baselines3: `gymnasium.vector` and EnvPool.

A VecEnv begins a new episode within the step that ends one: it returns the first observation of the
new episode and puts the last of the old one into `info["terminal_observation"]`. Gymnasium calls
this `AutoresetMode.SAME_STEP`; there the last observation is in `infos["final_obs"]`. With
`NEXT_STEP` the step that ends an episode returns its last observation, and the step after it
ignores the action, so a learner would store a transition that never took place. Here the finished
copies are instead reset at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

from vaerl.densities.options import check_positive
from vaerl.disk.errors import one_line

Reset = Callable[[Any, np.ndarray], Any]
"""Resets the copies in a mask (num_envs,), given the last observations; returns the new ones."""


def from_vector(venv: VectorEnv) -> VecMonitor:
    """A vector environment of Gymnasium as a VecEnv.

    Args:
        venv: with either mode of automatic reset. With `NEXT_STEP` it must be able to reset single
            copies (`reset(options={"reset_mask": …})`), as SyncVectorEnv and AsyncVectorEnv are.

    Returns:
        A VecEnv that also reports the return and length of each episode.

    Raises:
        ValueError: copies that cannot be reset singly, when they are made or when a first episode
            ends; another mode of reset.

    >>> import gymnasium
    >>> from stable_baselines3 import SAC
    >>> env = from_vector(gymnasium.make_vec("Pendulum-v1", 4))
    >>> SAC("MlpPolicy", env, learning_starts=100).learn(120).num_timesteps
    120
    """
    if not isinstance(venv, VectorEnv):
        raise ValueError(f"venv: got {type(venv).__name__}, expected a gymnasium.vector.VectorEnv")
    mode = venv.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
    mode = getattr(venv.unwrapped, "autoreset_mode", mode)
    if mode not in (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP):
        raise ValueError(f"venv: got {mode}, expected AutoresetMode.SAME_STEP or NEXT_STEP")
    if mode == AutoresetMode.NEXT_STEP and not getattr(venv.unwrapped, "shared_memory", True):
        # its workers would reset a second time
        raise ValueError(
            "venv: got shared_memory=False with AutoresetMode.NEXT_STEP, expected one without the "
            "other"
        )

    def reset(last: Any, over: np.ndarray) -> Any:
        found = venv.reset(options={"reset_mask": over})[0]
        for new, old in zip(_arrays(found), _arrays(last), strict=True):
            if not np.array_equal(new[~over], old[~over], equal_nan=True):
                raise ValueError(
                    f"venv: {venv.unwrapped} cannot reset single copies, which "
                    "AutoresetMode.NEXT_STEP needs; make it with AutoresetMode.SAME_STEP"
                )
        return found

    again = None if mode == AutoresetMode.SAME_STEP else reset
    return VecMonitor(
        _Batched(lambda _: venv, venv.single_observation_space, venv.single_action_space, again)
    )


def make_envpool(env_id: str, copies: int, **options: Any) -> VecMonitor:
    """Copies of an environment in EnvPool, which steps them in threads of C++ (extra: envpool).

    Args:
        env_id: of EnvPool, such as HalfCheetah-v5.
        copies: number of them.
        options: of `envpool.make`, such as num_threads.

    Returns:
        A VecEnv that also reports the return and length of each episode.

    Raises:
        ValueError: an unknown id, or the extra is missing.

    >>> env = make_envpool("Pendulum-v1", 4)
    >>> env.reset().shape
    (4, 3)
    """
    try:
        import envpool
    except ImportError as error:
        raise ValueError("simulator: EnvPool is missing; pip install 'vaerl[envpool]'") from error
    check_positive("copies", copies)
    known = envpool.list_all_envs()
    if env_id not in known:
        raise ValueError(f"env: got {env_id!r}, which EnvPool {envpool.__version__} does not have")

    def make(seeds: Sequence[int | None]) -> Any:
        given = [seed % 2**31 for seed in seeds if seed is not None]
        return envpool.make_gymnasium(
            env_id, num_envs=copies, **options, **({"env_seed": given} if given else {})
        )

    def reset(last: Any, over: np.ndarray) -> Any:
        first = pool.venv.reset(np.flatnonzero(over).astype(np.int32))[0]
        for new, old in zip(_arrays(first), _arrays(last), strict=True):
            old[over] = new
        return last

    try:
        one = make([])
    except TypeError as error:
        raise ValueError(f"options: got {options} for {env_id!r}: {one_line(error)}") from error
    pool = _Batched(make, one.observation_space, one.action_space, reset, copies)
    return VecMonitor(pool)


class _Batched(VecEnv):
    """Adapter. `make(seeds)` gives the simulator; without `reset` it resets by itself."""

    def __init__(
        self,
        make: Callable[[Sequence[int | None]], Any],
        observation_space: spaces.Space,
        action_space: spaces.Space,
        reset: Reset | None,
        num_envs: int | None = None,
    ) -> None:
        self.make, self._reset = make, reset
        self.venv = make([])
        self.render_mode = self.venv.render_mode if num_envs is None else None
        super().__init__(num_envs or self.venv.num_envs, observation_space, action_space)
        self.batched_seeds = num_envs is not None  # the simulator takes seeds when it is made

    def reset(self) -> Any:
        """Begin an episode in every copy."""
        seeds, self._seeds = self._seeds, [None] * self.num_envs
        seeded = any(seed is not None for seed in seeds)
        if self.batched_seeds:
            if seeded:
                self.venv.close()
                self.venv = self.make(seeds)
            found, infos = self.venv.reset()
        else:
            found, infos = self.venv.reset(seed=list(seeds) if seeded else None)
        self.reset_infos = _rows(infos, self.num_envs)
        return _copy(found)

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = np.asarray(actions, dtype=self.action_space.dtype)

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Step all copies; begin a new episode in those that have ended one."""
        found, rewards, terminated, truncated, batch = self.venv.step(self._actions)
        dones = terminated | truncated
        infos = _rows(batch, self.num_envs)
        found = _copy(found)
        for row in map(int, np.flatnonzero(dones)):
            last = infos[row].pop("final_obs", None)
            infos[row] |= infos[row].pop("final_info", {})
            infos[row]["terminal_observation"] = _row(found, row) if self._reset else last
            infos[row]["TimeLimit.truncated"] = bool(truncated[row] and not terminated[row])
        if self._reset and dones.any():
            found = _copy(self._reset(_copy(found), dones))
        return found, np.asarray(rewards, np.float32), dones, infos

    def close(self) -> None:
        """Close the simulator."""
        self.venv.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of the copies, or that of the simulator for each of them."""
        rows = list(self._get_indices(indices))
        if attr_name == "render_mode":
            return [self.render_mode for _ in rows]
        if isinstance(self.venv, VectorEnv) and hasattr(self.venv, "get_attr"):
            values = self.venv.get_attr(attr_name)
            return [values[row] for row in rows]
        return [getattr(self.venv, attr_name) for _ in rows]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refused: the copies of a simulator have no attributes of their own."""
        raise AttributeError(f"{attr_name}: the copies of a batched simulator take no attributes")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        """Call a method of the copies, where the simulator can."""
        if not hasattr(self.venv, "call"):
            raise AttributeError(
                f"{method_name}: the copies of a batched simulator have no methods"
            )
        values = self.venv.call(method_name, *args, **kwargs)
        return [values[row] for row in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Whether single copies are wrapped: they are not."""
        return [False for _ in self._get_indices(indices)]


def _arrays(observation: Any) -> list[np.ndarray]:
    return list(observation.values()) if isinstance(observation, Mapping) else [observation]


def _copy(observation: Any) -> Any:
    if isinstance(observation, Mapping):
        return {key: np.array(value) for key, value in observation.items()}
    return np.array(observation)


def _row(observation: Any, row: int) -> Any:
    if isinstance(observation, Mapping):
        return {key: value[row] for key, value in observation.items()}
    return observation[row]


def _rows(batch: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """The infos of each copy; `batch["_key"]` tells which of them have the key."""
    rows: list[dict[str, Any]] = [{} for _ in range(count)]
    for key, values in batch.items():
        if key.startswith("_"):
            continue
        has = batch.get(f"_{key}")
        nested = _rows(values, count) if isinstance(values, Mapping) else values
        for row in range(count) if has is None else np.flatnonzero(has):
            rows[row][key] = nested[row]
    return rows
