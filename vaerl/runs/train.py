"""Training: from a `TrainConfig` to a finished run directory.

Everything is checked before the directory is made. Evaluation, pictures, checkpoints and trackers
restore the random streams of training, so that they cannot change what is learned.
"""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from vaerl.agents import agent_class
from vaerl.checkpoint.load import load_checkpoint, restore
from vaerl.checkpoint.read import find_checkpoint, list_checkpoints
from vaerl.disk import files, jsonio
from vaerl.disk.errors import RunFailed, one_line, only_looks
from vaerl.disk.versions import versions
from vaerl.runs.build import check_config, check_options, log_every, make_agent, make_trackers
from vaerl.runs.callback import TrackerCallback
from vaerl.runs.clone import resolve
from vaerl.runs.config import TrainConfig
from vaerl.runs.directory import RunDirectory
from vaerl.runs.evaluate import EvalResult, episodes_wanted, evaluate
from vaerl.runs.signals import Stopped, StopSignals, stop_signals
from vaerl.runs.vec import make_vec, spawn_seeds
from vaerl.runs.video import record, video_format
from vaerl.threads import limit_threads

MOST_DETERMINISTIC = 100  # episodes of the final evaluation with the best action
VIDEO_FRAMES = 150  # of the video at the end
KEPT_CHECKPOINTS = 2
PROGRESS_INTERVAL = 0.1  # seconds between two calls of `on_step`
OnStep = Callable[[int], None]


class Painter(Protocol):
    """Draws a run while it trains; both methods return what trackers log, by key."""

    def policy(self, step: int) -> Mapping[str, Any]:
        """Draw what the agent has learned."""

    def rollouts(self, result: EvalResult, step: int) -> Mapping[str, Any]:
        """Draw the roll-outs of an evaluation."""


MakePainter = Callable[[RunDirectory, BaseAlgorithm], Painter]


@limit_threads()
def train(
    config: TrainConfig,
    *,
    overwrite: bool = False,
    resume: bool = False,
    on_step: OnStep | None = None,
    painter: MakePainter | None = None,
) -> RunDirectory:
    """Train until the end, SIGINT, SIGTERM or SIGHUP, and return the run.

    Args:
        config: what to train.
        overwrite: replace the run in the folder; not together with `resume`.
        resume: continue from the last checkpoint in the folder, replay buffer included; a folder
            without a run, or with one that has written nothing yet, gets a new run.
        on_step: called with the number of steps, a few times per second.
        painter: draws pictures during training, such as `vaerl.report.pictures.Painter`; there are
            none without it.

    Raises:
        ValueError: an illegal value in `config`, before anything is written; a folder that holds
            a run, without `overwrite` or `resume`; a run that cannot be resumed.
    """
    if overwrite and resume:
        raise ValueError("--overwrite and --resume: got both, expected one of them")
    config, clone = resolve(config)
    check_config(config)
    files.check_folder("out", config.out)
    run = RunDirectory(Path(config.out).absolute())  # an environment may change the folder
    _check_place(run, config, overwrite, resume)  # before the agent: that may take minutes
    env = _make_env(config, config.n_envs, subprocess=config.subprocess, envpool=config.envpool)
    try:
        agent = make_agent(config, env, _seeds(config)["agent"])
        with run.locked(), stop_signals() as signals:
            if _check_place(run, config, overwrite, resume):
                _restore(run, config, agent)
            else:
                run.create(config.to_dict(), overwrite=overwrite or resume)
                if clone is not None:
                    agent.take_over(clone)  # type: ignore[attr-defined]
            return _Training(config, run, agent, signals, on_step, painter).run_all()
    finally:
        env.close()


def load_run(path: Path) -> tuple[BaseAlgorithm, TrainConfig, int]:
    """Return the agent at the last checkpoint of a run, its configuration, and its step.

    Raises ValueError, in one line, if there is no run or none of its checkpoints can be read.
    """
    run = RunDirectory.open(path)
    config = read_config(run)
    check_options(config)
    checkpoint = find_checkpoint(run.checkpoints_path)
    agent = load_checkpoint(checkpoint, _make_env(config), trains=False)
    return agent, config, checkpoint.num_timesteps


def _make_env(config: TrainConfig, copies: int = 1, **where: bool) -> VecEnv:
    return make_vec(
        config.env,
        copies,
        options=config.env_options,
        **where,
        timeout=config.worker_timeout,
        restarts=config.worker_restarts,
        discrete=agent_class(config.agent).discrete,
    )


def read_config(run: RunDirectory) -> TrainConfig:
    """Read the configuration that a run was trained with."""
    return TrainConfig.from_dict({k: v for k, v in run.config.items() if k != "versions"})


def _seeds(config: TrainConfig) -> dict[str, int]:
    return spawn_seeds(config.seed, "agent", "evaluation", "final", "video")


def _check_place(run: RunDirectory, config: TrainConfig, overwrite: bool, resume: bool) -> bool:
    """Whether training goes on from a checkpoint in the folder.

    Raises ValueError if the folder can hold neither that nor a new run.
    """
    saved = resume and bool(list_checkpoints(run.checkpoints_path))
    if resume and not run.config_path.exists() and run.holds_work and run.status_path.exists():
        raise ValueError(f"--resume: config.json is missing from {str(run.path)!r}")
    if resume and run.config_path.exists():
        if difference := config.difference(read_config(RunDirectory.open(run.path))):
            raise ValueError(f"--resume: {difference} as in the run")
        if not saved and run.holds_work:
            raise ValueError(
                f"--resume: {str(run.path)!r} has no checkpoint to resume from; choose another "
                "--out, or --overwrite to start again"
            )
    if not saved:
        run.check_free(overwrite or resume)
    return saved


def _restore(run: RunDirectory, config: TrainConfig, agent: BaseAlgorithm) -> None:
    """Load the last checkpoint into `agent` and delete the rows of metrics after it."""
    checkpoint = find_checkpoint(run.checkpoints_path, include_replay=True)
    ended = run.status()["state"] == "finished"  # otherwise the final evaluation is missing
    if checkpoint.num_timesteps >= config.steps and ended:
        raise ValueError(
            f"--resume: steps: got {config.steps}, expected more than the "
            f"{checkpoint.num_timesteps} steps of the run {str(run.path)!r}"
        )
    restore(agent, checkpoint, include_replay=True, rng=True)
    run.drop_metrics_after(checkpoint.num_timesteps)
    data = {**config.to_dict(), "versions": versions()}
    files.write_text(run.config_path, jsonio.dumps(data, indent=2) + "\n")


class _Training:
    """One call of `train`, after everything has been checked and built."""

    def __init__(
        self,
        config: TrainConfig,
        run: RunDirectory,
        agent: BaseAlgorithm,
        signals: StopSignals,
        on_step: OnStep | None,
        painter: MakePainter | None,
    ) -> None:
        self.config, self.run, self.agent, self.on_step = config, run, agent, on_step
        self.seeds = _seeds(config)
        self.painter = painter(run, agent) if painter is not None else None
        before = run.status()  # of a resumed run
        self.before = {key: before.get(key, 0) for key in ("train_seconds", "train_steps")}
        self.callback = TrackerCallback(
            make_trackers(config, run),
            config=run.config,
            checkpoints=run.checkpoints_path,
            checkpoint_every=config.checkpoint_every or 0,
            described=True,
            include_replay=config.keep_replay,
            keep_last=KEPT_CHECKPOINTS,
            periodic=[
                (log_every(config), self._log),
                (config.eval_every or 0, self._evaluate),
                (config.picture_every or 0, self._picture),
            ],
            handle_signals=signals,
            guard=run.check_owner,
            finish_at_end=False,
        )

    def run_all(self) -> RunDirectory:
        """Learn, evaluate, record a video; write how it ended to status.json."""
        details: dict[str, Any] = {}
        self.run.set_status("running", self.agent.num_timesteps, **self.before)
        try:
            self._work(details)
        except BaseException as error:
            details["error"] = one_line(f"{type(error).__name__}: {error}")
            self.callback.trackers.alert(f"{self.run.name} failed", details["error"])
            with contextlib.suppress(OSError, RunFailed):  # the latter: the folder is not ours
                self.run.set_status("failed", self.agent.num_timesteps, **details)
                files.write_text(self.run.error_path, traceback.format_exc())
            raise
        finally:
            self.callback.close()
        return self.run

    def _work(self, details: dict[str, Any]) -> None:
        try:
            self._learn(details)
            state = "stopped" if self.callback.stopped_by else "finished"
            if state == "finished":
                self._evaluate_at_end(details)
        except (KeyboardInterrupt, Stopped):
            state = "stopped"
        self.run.set_status(state, self.agent.num_timesteps, **details)
        self._keep_files()
        if state == "finished" and self.config.video:
            with only_looks("video"):
                self._film(self.agent.num_timesteps)

    def _learn(self, details: dict[str, Any]) -> None:
        agent, config = self.agent, self.config
        begun = agent.num_timesteps
        if isinstance(agent, OnPolicyAlgorithm):
            whole = agent.n_steps * agent.n_envs
            if (config.steps - begun) % whole:
                ends = begun + -(-(config.steps - begun) // whole) * whole
                print(
                    f"steps: got {config.steps:,}; {config.agent} takes whole roll-outs of "
                    f"{whole:,} steps, {ends:,} in all",
                    file=sys.stderr,
                )
        progress = _Progress(self.on_step)
        log_interval = None if isinstance(agent, OffPolicyAlgorithm) else 1  # None: see _log
        start = time.perf_counter()
        agent.learn(
            max(0, config.steps - begun),
            callback=[self.callback, progress],
            log_interval=log_interval,  # type: ignore[arg-type]  # collect_rollouts takes None
            reset_num_timesteps=begun == 0,
        )
        seconds = time.perf_counter() - start - self.callback.hook_seconds
        details["train_seconds"] = self.before["train_seconds"] + seconds
        details["train_steps"] = self.before["train_steps"] + agent.num_timesteps - begun
        progress.tell(agent.num_timesteps)
        self.run.check_owner()
        if self.callback.last_save_failed:
            raise RunFailed("the last checkpoint could not be written")

    def _log(self, agent: BaseAlgorithm, step: int) -> None:
        """Log the algorithm's numbers by steps; Stable-Baselines3 does so by episodes."""
        if isinstance(agent, OffPolicyAlgorithm):
            agent.dump_logs()

    def _evaluate(self, agent: BaseAlgorithm, step: int) -> dict[str, Any]:
        if step >= self.config.steps:
            return {}  # the final evaluation follows
        count = self.config.eval_episodes or episodes_wanted(self.config.env, final=False)
        return self._scores(self._roll_out(count, "evaluation"), step)

    def _picture(self, agent: BaseAlgorithm, step: int) -> dict[str, Any]:
        return {} if self.painter is None else dict(self.painter.policy(step))

    def _scores(self, result: EvalResult, step: int) -> dict[str, Any]:
        """Scores of an evaluation, and its picture if the environment has a map."""
        values: dict[str, Any] = {f"eval/{key}": value for key, value in result.scores().items()}
        if result.note:
            print(result.note, file=sys.stderr)
        if self.painter is not None:
            with only_looks("picture"):
                values.update(self.painter.rollouts(result, step))
        return values

    def _roll_out(self, episodes: int, seed: str, deterministic: bool = False) -> EvalResult:
        return evaluate(
            self.agent,
            self.config.env,
            episodes=episodes,
            seed=self.seeds[seed],
            deterministic=deterministic,
            env_options=self.config.env_options,
            check=self.callback.signals.check,
        )

    def _evaluate_at_end(self, details: dict[str, Any]) -> None:
        """Evaluate with many episodes."""
        config, step = self.config, self.agent.num_timesteps
        episodes = config.final_episodes or episodes_wanted(config.env)
        drawn = self._roll_out(episodes, "final")
        best = self._roll_out(min(episodes, MOST_DETERMINISTIC), "final", deterministic=True)
        data = {
            "step": step,
            **details,
            "stochastic": drawn.to_dict(episodes=True),
            "deterministic": best.to_dict(episodes=True),
        }
        self.run.check_owner()
        files.write_text(self.run.evaluation_path, jsonio.dumps(data, indent=1) + "\n")
        values = self._scores(drawn, step)
        values["eval/deterministic_return_mean"] = float(best.returns.mean())
        self.callback.trackers.log(values, step)

    def _keep_files(self) -> None:
        """Give the trackers the last checkpoint, without a replay buffer, and the evaluation."""
        run, checkpoint = self.run, self.callback.last_checkpoint
        if checkpoint is not None:
            own = [path for path in checkpoint.iterdir() if not path.name.startswith("replay-")]
            at = {f"checkpoints/{checkpoint.name}/{path.name}": path for path in own}
            files_ = {"config.json": run.config_path, **at}
            self.callback.trackers.keep("checkpoint", "model", files_)
        if run.evaluation_path.exists():
            place = {"evaluation.json": run.evaluation_path}
            self.callback.trackers.keep("evaluation", "evaluation", place)

    def _film(self, step: int) -> None:
        path = record(
            self.agent,
            self.config.env,
            self.run.videos_path / f"{step:09d}.{video_format()}",
            seed=self.seeds["video"],
            env_options=self.config.env_options,
            most_frames=VIDEO_FRAMES,
            side_view=True,
            check=self.callback.signals.check,
        )
        self.callback.trackers.video("policy/video", path, step)


class _Progress(BaseCallback):
    """Reports the number of steps, a few times per second."""

    def __init__(self, on_step: OnStep | None) -> None:
        super().__init__()
        self.tell = on_step or (lambda step: None)
        self._told = 0.0

    def _on_step(self) -> bool:
        now = time.monotonic()
        if now - self._told >= PROGRESS_INTERVAL:
            self._told = now
            self.tell(self.num_timesteps)
        return True
