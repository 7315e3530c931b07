"""Work on a Ray cluster: every item is a trial of Ray Tune, which runs again if its worker dies.

Ray's own files are no state: a finished cell or run says so in its folder, on storage that all
machines share under the same path. A trial that begins again therefore goes on from the last
checkpoint of its run, and a command that is given again does what is missing.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from vaerl.disk import files
from vaerl.disk.errors import RunFailed, one_line
from vaerl.lab.pool import Ended, Show, Work
from vaerl.runs.owner import InUse

LOOPBACK = ("localhost", "127.0.0.1", "::1", "local", "")
TOKEN_FILE = Path("~/.ray/auth_token")
"""Where Ray looks for a token that the environment does not give."""
TRIES = 5
"""How often a trial runs again after its worker died."""
TURNS = 3
"""How often trials run that Tune gives up, as it does with one that fails twice at once."""
STARTS = 3
"""How often a cluster on this machine is started: Ray gives it half a minute."""
REPORT = 2.0  # seconds between two reports of a trial's progress
IN_USE = 60.0  # seconds for which a trial waits for the worker that had its folder before
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # several files a trial
    "TUNE_GLOBAL_CHECKPOINT_S": "600",
    "TUNE_MAX_PENDING_TRIALS_PG": "256",
}
"""Variables that Ray reads; those of the user count more."""
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_worker_niceness": "0"}
"""For a cluster on this machine alone: on any system it then listens on loopback only, and its
workers count as much as other processes do."""


class OnRay:
    """Runs the items as trials of Ray Tune, each on one core.

    Args:
        jobs: items at a time.
        address: HOST:PORT of the head of a cluster, "auto" on one of its machines, or "" for a
            cluster that begins and ends with the work, on this machine alone.
        storage: folder for Ray's files, shared by all machines.

    Raises:
        ImportError: Ray is not installed.
        ValueError: an address that Tune cannot use, or one of another machine without a token.
    """

    def __init__(self, jobs: int, address: str, storage: Path) -> None:
        check_address(address)
        self.jobs, self.address, self.storage = jobs, address, storage / ".ray"
        for name, value in {**SETTINGS, **({} if address else ALONE)}.items():
            os.environ.setdefault(name, value)
        load_ray()

    def run(self, work: Work, items: Sequence[Any], show: Show) -> Iterator[Ended]:
        """See `Executor.run`; the items that ended are given once all have."""
        if not items:
            return
        ends: dict[int, Ended | None] = {}
        with self._cluster():
            for _ in range(TURNS):
                left = [place for place in range(len(items)) if place not in ends]
                given = zip(left, self._fit(work, items, left, show), strict=True)
                found = {place: _read(place, result) for place, result in given}
                ends |= {p: end for p, end in found.items() if not isinstance(end, Lost)}
                if len(ends) == len(items):
                    break
            else:
                ends |= {p: end.ended(p) for p, end in found.items() if isinstance(end, Lost)}
        for place in range(len(items)):
            if (end := ends[place]) is not None:
                yield end
        if None in ends.values():
            raise KeyboardInterrupt
        files.remove_tree(self.storage)

    @contextmanager
    def _cluster(self) -> Iterator[None]:
        ray = load_ray()
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self.address:
            ray.init(address=self.address, **quiet)
        else:
            _start_here(ray, num_cpus=self.jobs, **quiet)
        try:
            check_address(ray.get_runtime_context().gcs_address)
            yield
        finally:
            ray.shutdown()

    def _fit(self, work: Work, items: Sequence[Any], places: Sequence[int], show: Show) -> Any:
        """The results of the work of some places, in their order."""
        tune = importlib.import_module("ray.tune")

        class Watch(tune.Callback):  # type: ignore[name-defined]
            """Shows the progress that the trials report; a copy on disk shows nothing."""

            def __init__(self, show: Show) -> None:
                self.show = show

            def __getstate__(self) -> dict[str, Any]:
                return {}

            def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any) -> None:
                self.show(trial.config["place"], result["amount"])

        folder = Path.cwd()

        def trial(settings: Mapping[str, Any], work: Work, items: Sequence[Any]) -> None:
            _work_in_trial(settings, work, items, folder)

        return tune.Tuner(
            tune.with_resources(tune.with_parameters(trial, work=work, items=items), {"cpu": 1}),
            param_space={"place": tune.grid_search(list(places))},
            tune_config=tune.TuneConfig(max_concurrent_trials=self.jobs, reuse_actors=True),
            run_config=tune.RunConfig(
                name=f"{time.time_ns():x}",
                storage_path=str(self.storage.absolute()),
                failure_config=tune.FailureConfig(max_failures=TRIES),
                callbacks=[Watch(show)],
                verbose=0,
            ),
        ).fit()


def _start_here(ray: ModuleType, **options: Any) -> None:
    """Start a cluster on this machine, again if it was too busy to start in Ray's time."""
    for left in reversed(range(STARTS)):
        try:
            ray.init(address="local", include_dashboard=False, **options)
            return
        except Exception:  # Ray's own class for this is Exception
            ray.shutdown()
            if not left:
                raise


def _work_in_trial(
    settings: Mapping[str, Any], work: Work, items: Sequence[Any], folder: Path
) -> None:
    """Do the work of a place; its value or its error is the last report."""
    report = importlib.import_module("ray.tune").report
    os.chdir(folder)
    last = time.monotonic()

    def tick(amount: float) -> None:
        nonlocal last
        if time.monotonic() - last > REPORT:
            last = time.monotonic()
            report({"amount": float(amount)})

    done: dict[str, Any] = {"amount": 0.0, "ended": True}
    try:
        done["value"] = _in_turn(partial(work, items[settings["place"]], tick))
    except Exception as error:  # one of the work; the death of a worker is Ray's matter
        done["error"] = one_line(error) or type(error).__name__
    report(done)


def _in_turn(work: Any) -> Any:
    """Do the work once the worker that had its folder before is gone."""
    start = time.monotonic()
    while True:
        try:
            return work()
        except InUse:
            if time.monotonic() - start > IN_USE:
                raise
            time.sleep(1.0)


class Lost(NamedTuple):
    """A trial whose worker died too often; what it died of."""

    cause: str

    def ended(self, place: int) -> Ended:
        """As the error of the trial at a place."""
        return Ended(place, None, RunFailed(f"its workers died again and again: {self.cause}"))


def _read(place: int, result: Any) -> Ended | Lost | None:
    """How the trial of a place ended; None if it was interrupted."""
    metrics = result.metrics or {}
    if metrics.get("ended"):
        error = metrics.get("error")
        return Ended(place, metrics.get("value"), None if error is None else RunFailed(error))
    if result.error is None:
        return None
    return Lost(one_line(str(result.error).strip().splitlines()[-1], 200))


def load_ray() -> ModuleType:
    """Import Ray with Tune.

    Raises:
        ImportError: one line that says what to install.
    """
    try:
        importlib.import_module("ray.tune")
        return importlib.import_module("ray")
    except ImportError as error:
        raise ImportError(
            f"--executor ray: {error}; install it with: pip install 'vaerl[ray]'"
        ) from error


def check_address(address: str) -> str:
    """Return the address of a cluster if Tune may go there.

    Raises:
        ValueError: Ray's client protocol, or another machine without a token: whoever reaches a
            cluster without one can run any code there.

    >>> check_address("127.0.0.1:6379")
    '127.0.0.1:6379'
    >>> check_address("ray://10.0.0.1:10001")
    Traceback (most recent call last):
    ValueError: --ray-address: got 'ray://10.0.0.1:10001', expected HOST:PORT, auto, or \
http://HOST:8265 for a job
    """
    url = urlsplit(address if "://" in address else f"//{address}")
    if url.scheme not in ("", "http", "https"):
        raise ValueError(
            f"--ray-address: got {address!r}, expected HOST:PORT, auto, or http://HOST:8265 for a "
            "job"
        )
    if (url.hostname or "") not in (*LOOPBACK, "auto") and not has_token():
        raise ValueError(
            f"--ray-address: got {address!r} without a token, expected RAY_AUTH_MODE=token and a "
            "token (RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH) for a machine other than this one"
        )
    return address


def has_token() -> bool:
    """Whether Ray authenticates with a token here."""
    given = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    return os.environ.get("RAY_AUTH_MODE") == "token" and bool(
        given or TOKEN_FILE.expanduser().exists()
    )
