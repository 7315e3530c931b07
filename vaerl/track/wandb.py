"""Weights & Biases by its real client, from a thread that training never waits for.

One daemon thread owns every wandb call. Training puts what it has to say into a bounded queue and
goes on; when the queue is full the oldest word is dropped and counted. A server that refuses,
hangs or fails costs one printed line: the run then goes on offline, and the line says how to
upload it later. Values are logged against `global_step` by `run.log`, TensorBoard is not patched.

vaerl draws nothing from Python's global random generator while training; wandb's retry does, in
its own time, so a program that trains with `random` should keep a generator of its own.
"""

from __future__ import annotations

import atexit
import collections
import io
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vaerl.disk.errors import one_line
from vaerl.names import check_name
from vaerl.runs import media
from vaerl.track.base import Media, plain, to_stderr

MODES = ("online", "offline", "disabled")  # each asks less of the network than the one before
EXIT_GRACE = 20.0  # seconds, at the very end; a healthy client needs none of them
_ENV_MODES = {"run": "online", "shared": "online", "dryrun": "offline"}


class WandbTracker:
    """A W&B run whose files lie in `directory`/wandb.

    Args:
        directory: usually the run's own.
        project, name, group, tags: as in `wandb.init`.
        mode: online, offline or disabled; the environment variable WANDB_MODE can only take away.
        init_timeout: seconds to wait for the server before going offline.
        finish_timeout: seconds that `finish` may take in all.
        queue_size: words that may wait for the thread.
        say: where the few lines go, stderr by default.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        project: str = "vaerl",
        name: str | None = None,
        group: str | None = None,
        tags: tuple[str, ...] = (),
        mode: str = "online",
        init_timeout: float = 10.0,
        finish_timeout: float = 30.0,
        queue_size: int = 2000,
        say: Callable[[str], None] = to_stderr,
    ) -> None:
        check_name("mode", mode, MODES)
        self.directory = Path(directory)
        self.mode = _less_network(mode, os.environ.get("WANDB_MODE", ""))
        self.dropped = 0
        """Words that the full queue lost."""
        self.failures = 0
        """Calls that wandb refused."""
        self.sync_directory: str | None = None
        """What `wandb sync` takes, once the run has begun."""
        self.offline = self.mode == "offline"
        """Whether the run is kept on this machine only."""
        self._init = {"project": project, "name": name, "group": group, "tags": list(tags) or None}
        self._init_timeout = init_timeout
        self._finish_timeout = finish_timeout
        self._say = say
        self._queue: collections.deque[tuple[str, str, Any, int]] = collections.deque()
        self._queue_size = queue_size
        self._change = threading.Condition()
        self._closing = False
        self._late = False
        self._thread: threading.Thread | None = None
        self._config: dict[str, Any] = {}

    def start(self, config: Mapping[str, Any]) -> None:
        """Begin in the background and return at once."""
        if self.mode == "disabled" or self._thread is not None:
            return
        self._config = dict(config)
        self._thread = threading.Thread(target=self._work, name="vaerl-wandb", daemon=True)
        self._thread.start()
        atexit.register(self._leave, self._thread)

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Numbers and texts as they are, arrays as histograms."""
        self._put("log", "", {key: plain(value) for key, value in values.items()}, step)

    def image(self, key: str, picture: Media, step: int) -> None:
        """A picture: a path, or pixels, which are copied."""
        if isinstance(picture, np.ndarray):
            self._put("image", key, media.check_pixels(picture, 3, key).copy(), step)
        else:
            self._put("image", key, os.fspath(picture), step)

    def video(self, key: str, video: Media, step: int) -> None:
        """A video: a path, or frames, which are copied."""
        if isinstance(video, np.ndarray):
            self._put("video", key, media.check_pixels(video, 4, key).copy(), step)
        else:
            self._put("video", key, os.fspath(video), step)

    def finish(self) -> None:
        """Hand over what is left, waiting `finish_timeout` seconds at most."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with self._change:
            self._closing = True
            self._change.notify()
        thread.join(self._finish_timeout + 1.0)
        if thread.is_alive():
            self._queue.clear()
            self._late = True
            self._say(f"W&B: not done after {self._finish_timeout:g} s; {self._advice()}")
        if self.dropped:
            self._say(f"W&B: {self.dropped} rows were dropped; metrics.jsonl has them all")

    def _leave(self, thread: threading.Thread) -> None:
        """At the end of the program: finish, and let the thread come out of wandb's compiled code.

        A thread that the interpreter stops in there takes the process down with an abort.
        """
        self.finish()
        thread.join(EXIT_GRACE)

    def _put(self, kind: str, key: str, value: Any, step: int) -> None:
        if self._thread is None or not self._thread.is_alive():
            return
        with self._change:
            if len(self._queue) >= self._queue_size:
                self._queue.popleft()
                self.dropped += 1
            self._queue.append((kind, key, value, int(step)))
            self._change.notify()

    # What follows runs in the thread.

    def _work(self) -> None:
        try:
            run = self._open()
            if run is None:
                return
            while (item := self._take()) is not None:
                self._send(run, *item)
            self._close(run)
        except BaseException as error:  # wandb may raise SystemExit; it ends with this thread
            self._fail("the tracker", error)

    def _take(self) -> tuple[str, str, Any, int] | None:
        with self._change:
            while not self._queue:
                if self._closing:
                    return None
                self._change.wait()
            return self._queue.popleft()

    def _open(self) -> Any:
        # W&B's report about its own errors would keep the process waiting at exit for its server.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        try:
            import wandb

            # Silent also keeps it from asking for a key on the terminal.
            wandb.setup(wandb.Settings(silent=True))
        except BaseException as error:
            self._say(f"W&B: cannot be used: {_cause(error)}; training goes on without it")
            return None
        causes = []
        for mode in ("offline",) if self.offline else ("online", "offline"):
            try:
                run = self._init_run(wandb, mode)
            except BaseException as error:
                causes.append(_cause(error))
                continue
            self.offline = mode == "offline"
            self.sync_directory = str(run.settings.sync_dir)
            if not self.offline:
                self._say(f"W&B: {run.url}")
            else:
                why = f"{causes[0]}; offline" if causes else "offline"
                self._say(f"W&B: {why}, {self._advice()}")
            return run
        self._say(f"W&B: {'; '.join(dict.fromkeys(causes))}; training goes on without it")
        return None

    def _init_run(self, wandb: Any, mode: str) -> Any:
        settings = wandb.Settings(
            console="off",
            silent=True,
            disable_git=True,
            save_code=False,
            init_timeout=self._init_timeout,
            finish_timeout=max(1.0, 0.8 * self._finish_timeout),
            finish_timeout_raises=True,
        )
        run = wandb.init(
            **self._init,
            dir=str(self.directory),
            mode=mode,
            config=self._config,
            reinit="create_new",  # a run that the program has for itself stays what it is
            settings=settings,
        )
        run.define_metric("global_step")
        run.define_metric("*", step_metric="global_step")
        return run

    def _send(self, run: Any, kind: str, key: str, value: Any, step: int) -> None:
        try:
            import wandb

            if kind == "log":
                row = {k: _loggable(wandb, v) for k, v in value.items() if v is not None}
            elif kind == "image":
                row = {key: wandb.Image(value)}
            elif isinstance(value, np.ndarray):
                row = {key: wandb.Video(io.BytesIO(media.gif_bytes(value)), format="gif")}
            else:
                kind_of_file: Any = Path(value).suffix.lstrip(".")
                row = {key: wandb.Video(value, format=kind_of_file)}
            run.log({**row, "global_step": step})
        except BaseException as error:
            self._fail(kind, error)

    def _close(self, run: Any) -> None:
        try:
            run.finish()
        except BaseException as error:
            self.failures += 1
            if not self._late:
                self._say(f"W&B: {_cause(error)}; {self._advice()}")

    def _fail(self, what: str, error: BaseException) -> None:
        self.failures += 1
        if self.failures == 1:
            self._say(f"W&B: {what}: {_cause(error)}; metrics.jsonl has everything")

    def _advice(self) -> str:
        return f"upload later with: wandb sync {self.sync_directory or self.directory / 'wandb'}"


def _less_network(mode: str, wish: str) -> str:
    """`mode`, or WANDB_MODE where that asks less of the network."""
    wish = _ENV_MODES.get(wish, wish)
    return max(mode, wish, key=MODES.index) if wish in MODES else mode


def _loggable(wandb: Any, value: Any) -> Any:
    return wandb.Histogram(value.ravel()) if isinstance(value, np.ndarray) else value


def _cause(error: BaseException) -> str:
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return one_line(first, 160).rstrip(".")
