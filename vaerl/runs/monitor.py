"""The environment as a run sees it: each of its failures names environment, call and step.

A stranger's environment may raise anything, return anything, and use any key of `info`. Here its
failures become one kind of error, and keys that Stable-Baselines3 and vaerl read are dropped where
they mean something else.
"""

from __future__ import annotations

import math
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import stable_baselines3
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common import monitor

from vaerl.checkpoint.objects import Lost, capture, restore
from vaerl.disk.errors import FOREIGN, EnvironmentFault, one_line, words_of
from vaerl.envs.making import LONGEST, make_env
from vaerl.finite import find_bad, number

RETURNS = {
    "step": "(observation, reward, terminated, truncated, info)",
    "reset": "(observation, info)",
    "render": "an array (H, W, 3)",
}
CALLERS = tuple(
    str(Path(place).parent) for place in (gymnasium.__file__, stable_baselines3.__file__, __file__)
)
"""Where code runs that uses what an environment returned."""


class Monitor(monitor.Monitor):
    """SB3's Monitor, which raises an `EnvironmentFault` for whatever goes wrong in `env`.

    Args:
        env: environment.
        name: of it in messages.
        limit: steps after which `env` cuts episodes that would not end by themselves, if it does.
    """

    def __init__(self, env: gymnasium.Env, name: str, limit: int | None = None) -> None:
        super().__init__(env)
        self.name, self.limit = name, limit
        self._last: dict[str, Any] | None = None

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        found = self._call("reset", super().reset, **options)
        if not (isinstance(found, tuple) and len(found) == 2):
            got = one_line(repr(found), 60)
            raise EnvironmentFault(
                f"{self._where('reset')} returned {got}; it must return {RETURNS['reset']}"
            )
        self._check("reset", *found, "observation")
        return found

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step."""
        found = self._call("step", super().step, action)
        observation, reward, terminated, truncated, info = found
        over = terminated or truncated
        for end in (terminated, truncated):
            if end is None or isinstance(end, str):
                raise EnvironmentFault(
                    f"{self._where('step', done=True)} returned {end!r} for the end of an episode, "
                    "expected True or False"
                )
        self._check("step", observation, info, "terminal observation" if over else "observation")
        if not _is_finite(reward):
            before = [f"the last one was {number(r)}" for r in self.rewards[-2:-1]]
            said = f"{self._where('step', done=True)}: reward is {_shown(reward)}"
            raise EnvironmentFault("; ".join([said, *before]))
        if not over:
            info.pop("episode", None)  # Stable-Baselines3 takes it for the end of an episode
        if not isinstance(info.get("is_success", False), bool | int | float | np.generic):
            del info["is_success"]
        return found

    def capture_state(self) -> Any:
        """The state of the environment and its wrappers, for a checkpoint; a line if it has none
        that can be saved."""
        try:
            return capture(self)
        except Lost as error:
            return str(error)

    def restore_state(self, state: Any) -> str | None:
        """Go on from what `capture_state` gave; a line if that cannot be."""
        try:
            restore(self, state)
        except Lost as error:
            return str(error)
        return None

    def render(self) -> Any:
        """Draw the current state."""
        return self._call("render", super().render)

    def close(self) -> None:
        """Close the environment; if that fails, one line says so."""
        try:
            super().close()
        except FOREIGN as error:  # its work is done
            print(f"env {self.name!r}: close raised {words_of(error)}", file=sys.stderr)

    def _call(self, name: str, call: Callable[..., Any], *given: Any, **options: Any) -> Any:
        try:
            return call(*given, **options)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # also a sys.exit()
            frames = traceback.extract_tb(error.__traceback__)
            returned = all(frame.filename.startswith(CALLERS) for frame in frames)
            hint = f"; it must return {RETURNS[name]}" if returned else ""
            raise EnvironmentFault(f"{self._where(name)} raised {words_of(error)}{hint}") from error

    def _check(self, name: str, observation: Any, info: Any, what: str) -> None:
        """Check what would otherwise fail, unnamed, where observations of copies are stacked."""
        space, where = self.observation_space, self._where(name, done=True)
        spaces = space.spaces if isinstance(space, gymnasium.spaces.Dict) else {"": space}
        given = observation if isinstance(space, gymnasium.spaces.Dict) else {"": observation}
        found = {}
        for key, part in spaces.items():
            if not isinstance(given, dict) or key not in given:
                raise EnvironmentFault(f"{where} returned no observation {key!r}")
            named = f"{where} returned an observation {key + ' ' if key else ''}of"
            try:
                array = found[key] = np.asarray(given[key])
            except Exception:  # rows of several lengths, a tensor with gradients
                raise EnvironmentFault(f"{named} {one_line(repr(given[key]), 60)}") from None
            if part.shape is not None and array.shape != part.shape:
                raise EnvironmentFault(f"{named} shape {array.shape}, expected {part.shape}")
            if array.dtype.kind not in "biuf":
                raise EnvironmentFault(f"{named} type {array.dtype}, expected real numbers")
        if bad := find_bad(found, self._last):
            raise EnvironmentFault("; ".join([f"{where}: {what}{bad[0]}", *bad[1:]]))
        self._last = found
        if not isinstance(info, dict):
            kind = type(info).__name__
            raise EnvironmentFault(f"{where} returned an info of type {kind}, not dict")

    def _where(self, call: str, done: bool = False) -> str:
        """The environment and the call; `done`: the step is counted already."""
        number = self.total_steps + (call == "step" and not done)
        at = f"step {number}" if call == "step" else f"{call} after {number} steps"
        return f"env {self.name!r}: {at}"


def monitored(env: gymnasium.Env, name: str, limit: int | None = None) -> Monitor:
    """An environment under a `Monitor`; with `limit`, its episodes are cut after so many steps if
    it declares no end."""
    declared = None if env.spec is None else env.spec.max_episode_steps
    if limit is None or (declared is not None and 0 < declared <= LONGEST):
        return Monitor(env, name)
    return Monitor(TimeLimit(env, limit), name, limit)


@contextmanager
def watched(env_id: str, options: Mapping[str, Any], limit: int | None = None) -> Iterator[Monitor]:
    """An environment as `monitored`, closed at the end of the block.

    Raises EnvironmentFault if it cannot be made.
    """
    try:
        env = monitored(make_env(env_id, **options), env_id, limit)
    except (ValueError, TypeError, gymnasium.error.Error):  # of its options
        raise
    except FOREIGN as error:
        raise EnvironmentFault(f"env {env_id!r} cannot be made: {words_of(error)}") from error
    try:
        yield env
    finally:
        env.close()


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except (TypeError, ValueError, OverflowError):
        return False


def _shown(reward: Any) -> str:
    return number(reward) if isinstance(reward, int | float) else one_line(repr(reward), 60)
