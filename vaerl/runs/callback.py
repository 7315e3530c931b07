"""The callback of a training run: logging, checkpoints, hooks such as evaluation, a clean stop.

Hooks and checkpoints run where a rollout starts. Only there have the environment, the buffer and
the policy seen the same steps: in `on_step` the environment has moved on, but the transition is not
stored yet.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Figure, Image, KVWriter, Video
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit

from vaerl.agents.description import describe
from vaerl.checkpoint import save as checkpoint
from vaerl.checkpoint.loop import capture_loop
from vaerl.checkpoint.rng import preserve_rng
from vaerl.checkpoint.save import capture_agent, keep
from vaerl.checkpoint.state import Parts
from vaerl.disk.errors import one_line
from vaerl.runs.signals import Stopped, StopSignals
from vaerl.track.base import Trackers, to_stderr

GUARD_SECONDS = 1.0
SHORT = 250
"""Steps of a roll-out that a stop signal waits for, so that the checkpoint is exact."""
Hook = Callable[[BaseAlgorithm, int], Mapping[str, Any] | None]


class TrackerCallback(BaseCallback):
    """Tracks and saves a training run of any Stable-Baselines3 algorithm.

    Besides what the algorithm records, it logs against the number of environment steps:
    `rollout/ep_rew`, `rollout/ep_len` (means over the episodes that ended since the last row),
    `rollout/episodes` (their number), `rollout/is_success` if the environment reports it,
    `time/sps` (environment steps per second since the last row).

    Args:
        trackers: any objects with the methods of `Tracker`; each failure is printed once.
        config: passed to the trackers when they start.
        checkpoints: directory for checkpoints, or None for none.
        checkpoint_every: steps between checkpoints; 0: only at the end.
        described, include_replay, keep_last: as in `save_checkpoint`.
        periodic: pairs (every_n_steps, hook). `hook(agent, step)` returns values by key: numbers,
            paths of pictures and videos, or pixels (H, W, 3), (T, H, W, 3) of uint8. Afterwards
            every random generator is restored. A hook that raises is reported once.
        log_every: minimum number of steps between two rows of episodes.
        handle_signals: on SIGINT, SIGTERM and SIGHUP, end training cleanly, with a checkpoint; or
            the `StopSignals` that do so.
        guard: called before anything is written, and at least once a second; ends training by
            raising.
        finish_at_end: finish the trackers when training ends; if False, call `close`.
        say: receives the few lines that are printed, on stderr by default.
    """

    def __init__(
        self,
        trackers: Iterable[Any] = (),
        *,
        config: Mapping[str, Any] | None = None,
        checkpoints: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 0,
        described: bool = False,
        include_replay: bool = False,
        keep_last: int | None = 3,
        periodic: Iterable[tuple[int, Hook]] = (),
        log_every: int = 100,
        handle_signals: bool | StopSignals = True,
        guard: Callable[[], None] = lambda: None,
        finish_at_end: bool = True,
        say: Callable[[str], None] = to_stderr,
    ) -> None:
        super().__init__()
        if checkpoint_every < 0:
            raise ValueError(
                f"checkpoint_every: got {checkpoint_every}, expected a whole number, 0 or more"
            )
        self.trackers = Trackers(trackers, say)
        self.last_checkpoint: Path | None = None
        """The newest checkpoint of this run."""
        self.stopped_by: str | None = None
        """Name of the signal that ended training, if one did."""
        self.hook_seconds = 0.0
        """Time spent in hooks, which is not training."""
        self.last_save_failed = False
        """Whether the newest checkpoint could not be written."""
        self._config = dict(config or {})
        self._checkpoints = None if checkpoints is None else Path(checkpoints)
        self._save_options: dict[str, Any] = {
            "described": described,
            "include_replay": include_replay,
            "keep_last": keep_last,
        }
        self._saves = _Every(checkpoint_every)
        self._hooks = [(_Every(every), hook) for every, hook in periodic]
        self._log_every = log_every
        self._finish_at_end = finish_at_end
        self._say = say
        self._guard = guard
        self._guarded = 0.0  # when it was called last
        self.signals = (
            handle_signals
            if isinstance(handle_signals, StopSignals)
            else StopSignals(handle_signals)
        )
        """Handled from the start of training until `close`."""
        self._writer = _TrackerWriter(self._log)
        self._started = False
        self._boundary = 0  # steps at the last consistent point
        self._captured: checkpoint.Captured | None = None  # the agent there, in a long roll-out
        self._saved_all = False  # whether the checkpoint at the stop is complete
        self._episodes: list[Mapping[str, Any]] = []
        self._successes: list[float] = []
        self._row_step, self._row_time = 0, 0.0

    def _on_training_start(self) -> None:
        if self._checkpoints is not None:  # report what cannot be saved before training
            if not self._save_options["described"]:
                describe(self.model)
            Parts(self.model)
            if not self._started and (lost := capture_loop(self.model)["lost"]):
                self._say(f"environment: {lost} cannot be saved; a resumed run starts new episodes")
        if self._started:
            self.signals.clear()
        else:
            self._started = True
            self.trackers.start(self._config)
        if self._writer not in self.logger.output_formats:
            self.logger.output_formats.append(self._writer)
        self.stopped_by = None
        self._boundary = self.num_timesteps
        self._row_step, self._row_time = self.num_timesteps, time.perf_counter()
        for timer in (self._saves, *(timer for timer, _ in self._hooks)):
            timer.begin(self.num_timesteps)
        self.signals.install()

    def _on_rollout_start(self) -> None:
        self.num_timesteps = self._boundary = self.model.num_timesteps
        self._run_hooks(self._boundary)
        self._saved_all = self.signals.received is not None
        if self._saves.due(self._boundary) or (
            self._saved_all and self._saves.last != self._boundary
        ):
            self._log_row(self._boundary)
            self._save(self._boundary)
        if self._checkpoints is not None and isinstance(self.model, OnPolicyAlgorithm):
            long = roll_out_steps(self.model) > SHORT
            if long:
                self._log_row(self._boundary)
            self._captured = keep(capture_agent(self.model, self._boundary)) if long else None

    def _on_step(self) -> bool:
        ended = zip(self.locals["infos"], self.locals["dones"], strict=True)
        for info, done in ended:
            if done and "episode" in info:
                self._episodes.append(info["episode"])
                if "is_success" in info:
                    self._successes.append(float(info["is_success"]))
        if time.monotonic() - self._guarded > GUARD_SECONDS:
            self._check()
        if self.signals.received is not None and (
            self._saved_all or roll_out_steps(self.model) > SHORT
        ):
            self.stopped_by = self.signals.received
            self._say(f"{self.stopped_by}: stopping at step {self.num_timesteps}")
            return False
        since = self.num_timesteps - self._row_step
        if since >= max(self._log_every if self._episodes else 10 * self._log_every, 1):
            self._log_row(self.num_timesteps)
        return True

    def _check(self) -> None:
        self._guard()
        self._guarded = time.monotonic()

    def _log(self, values: Mapping[str, Any], step: int) -> None:
        self._check()
        self.trackers.log(values, step)

    def _log_row(self, step: int) -> None:
        """Log the steps and episodes since the last row.

        A checkpoint holds none of them, so there is a row where one is taken.
        """
        since, now = step - self._row_step, time.perf_counter()
        if since <= 0 and not self._episodes:
            return
        row: dict[str, float] = {"time/sps": max(since, 0) / max(now - self._row_time, 1e-9)}
        if self._episodes:
            row["rollout/ep_rew"] = float(np.mean([episode["r"] for episode in self._episodes]))
            row["rollout/ep_len"] = float(np.mean([episode["l"] for episode in self._episodes]))
            row["rollout/episodes"] = len(self._episodes)
        if self._successes:
            row["rollout/is_success"] = float(np.mean(self._successes))
        self._log(row, step)
        self._episodes, self._successes = [], []
        self._row_step, self._row_time = step, now

    def _on_training_end(self) -> None:
        step = end = self.model.num_timesteps
        if self.stopped_by is not None:
            # The last transition was not stored, and an interrupted rollout is not trained on: what
            # is saved is the last boundary. Where only the buffer has grown since, it is kept.
            exact = self._saved_all or isinstance(self.model, OnPolicyAlgorithm)
            step = self._boundary if exact else max(self._boundary, step - self.model.n_envs)
            end = end if exact else step
            self.model._last_obs = None  # it is behind the environment; learn() then resets it
        self._log_row(end)
        if self.stopped_by is None:
            self._run_hooks(step)
        if self._checkpoints is not None and self._saves.last != step:
            self._save(step)
        self.stopped_by = self.signals.received  # also one after the last step
        if self._writer in self.logger.output_formats:
            self.logger.output_formats.remove(self._writer)
            self._writer.write(self.logger.name_to_value, {}, step)  # recorded after the last dump
        if self._finish_at_end:
            self.close()

    def close(self) -> None:
        """Finish the trackers and restore the signal handlers; a second call does nothing."""
        self.signals.restore()
        if self._started:
            self._started = False
            self.trackers.finish()

    def _run_hooks(self, step: int) -> None:
        for timer, hook in self._hooks:
            if not timer.due(step):
                continue
            timer.done(step)
            self._check()
            start = time.perf_counter()
            try:
                with preserve_rng(self.model):
                    values = hook(self.model, step)
            except Stopped:  # the next step ends the training
                continue
            except Exception as error:  # a hook must not end the training
                name = getattr(hook, "__name__", type(hook).__name__).strip("_")
                self.trackers.trouble(f"{name}: {type(error).__name__}: {one_line(error, 200)}")
            else:
                self._log(values or {}, step)
            self.hook_seconds += time.perf_counter() - start

    def _save(self, step: int) -> None:
        if self._checkpoints is None:
            return
        self._saves.done(step)
        self._check()
        try:
            self.trackers.sync()
            self.last_checkpoint = checkpoint.save_checkpoint(
                self.model,
                self._checkpoints,
                num_timesteps=step,
                captured=None if self.stopped_by is None else self._captured,
                **self._save_options,
            )
            self.last_save_failed = False
        except (OSError, ValueError, RuntimeError) as error:
            self.last_save_failed = True
            kept = [path.name for path in checkpoint.list_checkpoints(self._checkpoints)]
            cause = f"checkpoint: {one_line(error, 200)}"
            last = f"the last good one is {kept[0]}" if kept else "there is no earlier one"
            self.trackers.trouble(cause, f"; {last}")


def roll_out_steps(agent: BaseAlgorithm) -> float:
    """Steps of each environment from one consistent point to the next; infinite for episodes."""
    if isinstance(agent, OnPolicyAlgorithm):
        return agent.n_steps
    if not isinstance(agent, OffPolicyAlgorithm):
        return 1
    every = agent.train_freq
    assert isinstance(every, TrainFreq), "made by _setup_model()"
    return every.frequency if every.unit is TrainFrequencyUnit.STEP else math.inf


class _Every:
    """A timer of n environment steps; never due for n = 0."""

    def __init__(self, every: int) -> None:
        self.every = int(every)
        self.last = -1
        self._next: int | None = None

    def begin(self, step: int) -> None:
        self._next = step + self.every - step % self.every if self.every > 0 else None

    def due(self, step: int) -> bool:
        return self._next is not None and step >= self._next

    def done(self, step: int) -> None:
        self.last = step
        self.begin(step)


class _TrackerWriter(KVWriter):
    """A writer of the algorithm's logger, besides the user's own, that feeds the trackers."""

    def __init__(self, log: Callable[[Mapping[str, Any], int], None]) -> None:
        self._log = log

    def write(
        self,
        key_values: dict[str, Any],
        key_excluded: dict[str, tuple[str, ...]],
        step: int = 0,
    ) -> None:
        """Log one dump; excluded formats concern other writers."""
        self._log({key: _pixels(v) for key, v in key_values.items()}, step)

    def close(self) -> None:
        """The callback finishes the trackers."""


def _pixels(value: Any) -> Any:
    """Pixels of stable-baselines3's Image, Figure and Video; other values unchanged."""
    if isinstance(value, Figure):
        canvas = FigureCanvasAgg(value.figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()
    if isinstance(value, Video):  # (N, T, C, H, W): the first of N
        return _uint8(np.asarray(value.frames)[0].transpose(0, 2, 3, 1))
    if not isinstance(value, Image) or isinstance(value.image, str):
        return value.image if isinstance(value, Image) else value
    array, order = np.asarray(value.image), value.dataformats.upper()
    if "C" not in order:
        array, order = array[..., None], order + "C"
    array = array.transpose([order.index(axis) for axis in "HWC"])
    return _uint8(np.broadcast_to(array, (*array.shape[:2], 3)))


def _uint8(array: np.ndarray) -> np.ndarray:
    return array if array.dtype == np.uint8 else (255 * np.clip(array, 0, 1)).astype(np.uint8)
