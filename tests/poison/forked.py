"""The command line in a forked process: its output, exit code, time and memory.

The parent has imported what the commands need, so that a process costs milliseconds.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import torch

from vaerl.cli import app

CPU_SECONDS = 10
BLOCKED = 60  # seconds after which a process that waits is ended; far more than any needs
MIB = 1024
MOST = 512  # mebibytes beyond what the parent holds
FORBIDDEN = (
    *("pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"),
    *("socket.connect", "socket.bind", "os.chmod"),
)
MODULES = ("evil", "this", "antigravity")


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    """Exit code; minus the number of a signal."""
    out: str
    err: str
    seconds: float
    """Of processor time."""
    mebibytes: float
    """Peak of resident memory, beyond what it got from its parent."""
    events: list[str]
    """What no command has a reason to do with a stranger's run."""

    @property
    def faults(self) -> list[str]:
        """Everything that no input may cause."""
        found = list(dict.fromkeys(self.events))
        words = self.out[-2000:] + self.err[-2000:]
        found += [word for word in ("Traceback", "internal error") if word in words]
        found += [f"signal {-self.code}"] * (self.code < 0)
        found += ["memory"] * (self.mebibytes > MOST)
        return [*found, words[-400:]] if found else []


def forked(arguments: list[str], folder: Path, mebibytes: int | None = None) -> Outcome:
    """Run `vaerl ARGUMENTS` in `folder`; a process that works or waits too long is ended.

    `mebibytes` limits its address space beyond that of the parent, as `ulimit -v` does.
    """
    with tempfile.TemporaryDirectory() as scratch:
        names = [Path(scratch) / name for name in ("out", "err", "events", "begin")]
        for name in names:
            name.touch()
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            _command(arguments, folder, names, mebibytes)
        _, status, usage = os.wait4(child, 0)
        out, err, events, begin = (name.read_text(errors="replace") for name in names)
    return Outcome(
        os.waitstatus_to_exitcode(status),
        out,
        err,
        usage.ru_utime + usage.ru_stime,
        (usage.ru_maxrss - int(begin)) / MIB,
        json.loads(events or "[]"),
    )


def _command(arguments: list[str], folder: Path, names: list[Path], mebibytes: int | None) -> None:
    """What the child does; it never returns."""
    code = 99
    try:
        names[3].write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
        torch.set_num_threads(1)  # those of the parent are gone, and would be waited for
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(BLOCKED)
        used = int(sum(os.times()[:2]))
        resource.setrlimit(resource.RLIMIT_CPU, (used + CPU_SECONDS,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if mebibytes is not None:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * resource.getpagesize() + mebibytes * MIB**2
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        os.chdir(folder)
        for number, name in zip((1, 2), names, strict=False):
            fd = os.open(name, os.O_WRONLY)
            os.dup2(fd, number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        events: list[str] = []

        def note(event: str, given: tuple[Any, ...]) -> None:
            imported = event == "import" and str(given[0]).partition(".")[0] in MODULES
            if imported or event in FORBIDDEN:
                events.append(f"{event} {given!r}"[:200])

        sys.addaudithook(note)
        try:
            app(arguments)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 98
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        names[2].write_text(json.dumps(events))
    finally:
        os._exit(code)
