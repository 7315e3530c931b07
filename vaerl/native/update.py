"""The choice between the library's update of an agent and torch's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class NativeUpdate:
    """The native update of an agent, as long as a plan covers the agent.

    The log says which update is taken. Saved and copied agents make a plan of their own.
    """

    def __init__(self) -> None:
        self._plan: Any = None
        self._said = ""

    def __getstate__(self) -> dict[str, Any]:
        return vars(type(self)())

    def release(self) -> None:
        """Give the parameters memory of their own again."""
        if self._plan is not None:
            self._plan.release()
        self._plan = None

    def give_up(self, why: Exception) -> str:
        """Go back to torch's update; the line for the log."""
        self.release()
        return f"update: torch, the native one is missing or does not cover it: {why}"

    def say(self, agent: Any, line: str) -> None:
        """Log a line that differs from the last one."""
        if line != self._said:
            agent.logger.info(line)
            self._said = line

    @contextmanager
    def acting(self, policy: Any) -> Iterator[None]:
        """Let the library draw the policy's actions in this block.

        They differ from torch's by rounding, so a policy acts in its own way everywhere else.
        """
        if self._plan is None:
            yield
            return
        policy._fast.native = self._plan.act
        try:
            yield
        finally:
            policy._fast.native = None
