"""Copies of an environment in processes of their own; one that fails is named, and may restart."""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.util import Finalize
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv
from stable_baselines3.common.vec_env.base_vec_env import CloudpickleWrapper
from stable_baselines3.common.vec_env.subproc_vec_env import _stack_obs, _worker

from vaerl.checkpoint.objects import Lost
from vaerl.disk.errors import EnvironmentFault, one_line
from vaerl.runs.signals import blocked, leave_to_parent

TIMEOUT = 300.0
"""Seconds that a copy may take for an answer."""
GONE = object()
GRACE = 2.0
"""Seconds that a process gets to end by itself."""


class Fault(NamedTuple):
    """A worker's last answer: what ended it."""

    message: str
    traceback: str


def work(remote: Connection, parent: Connection, make: CloudpickleWrapper) -> None:
    """SB3's worker; what ends it is sent as the answer that the parent waits for."""
    leave_to_parent()
    try:
        _worker(remote, parent, make)
    except Exception as error:
        said = str(error) if isinstance(error, EnvironmentFault) else ""
        words = said or one_line(f"{type(error).__name__}: {error}")
        with contextlib.suppress(OSError):
            remote.send(Fault(words, traceback.format_exc()))


class Line:
    """The parent's end of the pipe to one copy, with the methods of a connection that SB3 uses.

    Args:
        make: of the environment.
        name: of the copy, in messages.
        timeout: seconds that an answer may take.
    """

    def __init__(self, make: CloudpickleWrapper, name: str, timeout: float) -> None:
        context: Any = multiprocessing.get_context(_start_method())
        self.make, self.name, self.timeout = make, name, timeout
        self.limit = max(timeout, TIMEOUT)  # of the first answer, until the process has started
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=work, args=(theirs, self.connection, make), daemon=True
        )
        with blocked():  # until the worker handles signals itself
            self.process.start()
        # Before multiprocessing's own end, a SIGTERM that the worker leaves to its parent.
        Finalize(self, self.process.kill, exitpriority=1)
        theirs.close()

    def send(self, message: Any) -> None:
        """Ask; if the process is gone, `recv` tells."""
        with contextlib.suppress(OSError):
            self.connection.send(message)

    def recv(self) -> Any:
        """The answer; EnvironmentFault if there is none in time, or if it is a `Fault`."""
        if not wait([self.connection, self.process.sentinel], self.limit):
            self.process.kill()
            raise self._fault(f"no answer within {self.limit:g} s; worker_timeout sets the limit")
        try:
            answer = self.connection.recv() if self.connection.poll() else GONE
        except (EOFError, OSError):
            answer = GONE
        if answer is GONE:
            self.process.join(GRACE)
            code = self.process.exitcode
            raise self._fault(f"its process ended with code {code}; its words are above")
        if isinstance(answer, Fault):
            raise self._fault(answer.message, answer.traceback)
        self.limit = self.timeout
        return answer

    def _fault(self, words: str, trace: str = "") -> EnvironmentFault:
        """A fault that names the copy once, with the worker's own traceback as a note."""
        fault = EnvironmentFault(
            words if words.startswith("env ") else f"env {self.name!r}: {words}"
        )
        if trace:
            fault.add_note(trace)
        return fault

    def again(self) -> Line:
        """The same copy in a new process."""
        self.process.kill()
        self.close()
        return Line(self.make, self.name, self.timeout)

    def close(self) -> None:
        """End the process, by force if it does not end."""
        with contextlib.suppress(OSError):
            self.connection.close()
        self.process.join(GRACE)
        if self.process.is_alive():
            self.process.kill()


def _start_method() -> str:
    """That of the workers; the server that forks them is started, deaf to stop signals."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return "spawn"
    with blocked():
        resource_tracker.ensure_running()  # it unblocks some
    with blocked():
        forkserver.ensure_running()
    return "forkserver"


class Workers(SubprocVecEnv):
    """Copies of an environment, each in its own process.

    A copy that raises, exits, answers too late or with what cannot be sent is named, with its own
    words and traceback, and ends the others; with restarts, it begins anew in another process, and
    its episode counts as cut by a limit of time.

    Args:
        make: of each copy.
        names: of the copies, in messages.
        timeout: seconds that an answer may take.
        restarts: of all copies together. Numbers then differ from those of a run without faults.

    Raises:
        EnvironmentFault: a copy failed.
    """

    remotes: list[Line]

    def __init__(
        self,
        make: Sequence[Callable[[], gymnasium.Env]],
        names: Sequence[str],
        timeout: float = TIMEOUT,
        restarts: int = 0,
    ) -> None:
        self.waiting = self.closed = False
        self.restarts = restarts
        self._seen: Sequence[Any] = ()
        pairs = zip(make, names, strict=True)
        self.remotes = [Line(CloudpickleWrapper(one), name, timeout) for one, name in pairs]
        self.processes = [line.process for line in self.remotes]
        self.remotes[0].send(("get_spaces", None))
        spaces = self._whole(self.remotes[0].recv)
        VecEnv.__init__(self, len(self.remotes), *spaces)

    def step_wait(self) -> Any:
        """Receive the results of a step."""
        rows = []
        for index, line in enumerate(self.remotes):
            try:
                rows.append(line.recv())
            except EnvironmentFault as fault:
                rows.append(self._restart(index, fault))
        self.waiting = False
        observations, rewards, dones, infos, resets = zip(*rows, strict=True)
        self._seen, self.reset_infos = observations, list(resets)
        stacked = _stack_obs(observations, self.observation_space)
        return stacked, np.stack(rewards), np.stack(dones), infos

    def reset(self) -> Any:
        """Reset all copies."""
        found = self._whole(super().reset)
        rows = range(self.num_envs)
        keyed = isinstance(found, dict)
        self._seen = [{k: v[i] for k, v in found.items()} if keyed else found[i] for i in rows]
        return found

    def env_method(self, *given: Any, **options: Any) -> list[Any]:
        """Call a method of the copies."""
        return self._whole(partial(super().env_method, *given, **options))

    def capture_states(self) -> list[Any]:
        """The states of the copies, for a checkpoint."""
        found = self.env_method("capture_state")
        for state in found:
            if isinstance(state, str):
                raise Lost(state)
        return found

    def close(self) -> None:
        """End the processes, also those that do not answer."""
        if self.closed:
            return
        self.closed = True
        for line in self.remotes:
            line.send(("close", None))
        for line in self.remotes:
            line.close()

    def _whole(self, call: Callable[[], Any]) -> Any:
        """Call; if a copy fails, end the others too."""
        try:
            return call()
        except EnvironmentFault:
            self._end()
            raise

    def _end(self) -> None:
        self.closed = True
        for line in self.remotes:
            line.process.kill()

    def _restart(self, index: int, fault: EnvironmentFault) -> Any:
        """The row of a step of a copy that failed: its episode is cut, the next one begins."""
        if not self.restarts:
            self._end()
            raise fault
        self.restarts -= 1
        print(f"{fault}; begun anew, {self.restarts} restarts are left", file=sys.stderr)
        line = self.remotes[index] = self.remotes[index].again()
        self.processes[index] = line.process
        seed = int(np.random.SeedSequence([index, self.restarts]).generate_state(1)[0])
        line.send(("reset", (seed, {})))
        observation, info = self._whole(line.recv)
        cut = {"TimeLimit.truncated": True, "terminal_observation": self._seen[index]}
        return observation, 0.0, True, cut, info
