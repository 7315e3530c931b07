"""The errors of files and runs; the message of each is one line."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

MAX_LENGTH = 600


def one_line(text: object, limit: int = MAX_LENGTH) -> str:
    """`text` on one line of at most `limit` printable characters.

    >>> one_line("shape\\n   differs")
    'shape differs'
    """
    line = " ".join(str(text).split())
    line = "".join(c if c.isprintable() else "?" for c in line)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def words_of(error: BaseException) -> str:
    """An error's class and message, on one line.

    >>> words_of(SystemExit(3))
    'SystemExit: 3'
    """
    try:
        said = str(error)
    except Exception:  # an error whose own str() fails
        said = ""
    return one_line(f"{type(error).__name__}: {said}" if said else type(error).__name__)


@contextlib.contextmanager
def only_looks(what: str, *, interrupted: bool = True) -> Iterator[None]:
    """Run a body that only looks at a run: whatever fails there is one line on stderr.

    With `interrupted`, Ctrl-C ends the body alone.

    >>> with only_looks("picture"):
    ...     raise OSError("no space")
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, KeyboardInterrupt) and not interrupted:
            raise
        print(f"no {what}: {words_of(error)}", file=sys.stderr)


FOREIGN = (Exception, SystemExit, GeneratorExit)
"""What code of users raises: a script that exits ends no process of ours."""


class RunFailed(RuntimeError):
    """A run failed for a reason outside of this program; the message is one line."""


class RunsFailed(RunFailed):
    """Some of several training runs failed; the message lists each with its reason."""


class EnvironmentFault(RunFailed):
    """An environment failed: the message names it, the call, the step, and gives its own words."""


class NotFinite(RunFailed, ValueError):
    """NaN or infinity where a finite number is expected; the message is one line.

    Args:
        what: the number that is not finite.
        key: name under which its earlier values are logged, if they are.

    >>> error = NotFinite("env 0: reward is NaN", step=7)
    >>> str(error)
    'step 7: env 0: reward is NaN, expected finite numbers'
    """

    def __init__(self, what: str, *, key: str = "", step: int | None = None) -> None:
        super().__init__(what)
        self.what, self.key, self.step = what, key, step
        self.details: list[str] = []
        """Further findings, such as the last finite value."""

    def __str__(self) -> str:
        step = "" if self.step is None else f"step {self.step}: "
        return "; ".join([f"{step}{self.what}, expected finite numbers", *self.details])


class VaerlLoadError(ValueError):
    """A file cannot be used: one line with the place, the value found and what is legal.

    >>> str(VaerlLoadError("config.json: seed: got -1,\\nexpected 0 or more"))
    'config.json: seed: got -1, expected 0 or more'
    """

    def __init__(self, message: object) -> None:
        super().__init__(one_line(message))


class WriteError(OSError):
    """A write failed and left the old file intact. `errno` gives the cause.

    >>> import errno
    >>> str(WriteError(OSError(errno.ENOSPC, "No space left on device"), "metrics.jsonl"))
    'cannot write metrics.jsonl: No space left on device'
    """

    def __init__(self, cause: OSError, path: str | os.PathLike[str]) -> None:
        name = os.path.basename(os.fspath(path)) or os.fspath(path)
        reason = cause.strerror or str(cause) or type(cause).__name__
        super().__init__(cause.errno, reason, os.fspath(path))
        self._message = one_line(f"cannot write {name}: {reason}")

    def __str__(self) -> str:
        return self._message
