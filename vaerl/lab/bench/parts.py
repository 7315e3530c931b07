"""A piece of work taken apart: what a reading (seconds, operations) advances by in each part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple
from unittest.mock import patch

from torch import nn


class Place(NamedTuple):
    """Calls of `owner.method` count to `part`; `splits` says that other places inside count apart.

    `part` may be a function that is asked at each call.
    """

    owner: Any
    method: str
    part: str | Callable[[], str]
    splits: bool = False


class Parts:
    """Every moment counts to one part: the outermost place that does not split.

    Args:
        reading: of a clock or of a counter.
        names: of the parts, in their order.

    >>> now = iter([0.0, 5.0])
    >>> parts = Parts(lambda: next(now), ["all"])
    >>> parts.metered("all", str)(3), parts.totals
    ('3', {'all': 5.0})
    """

    def __init__(self, reading: Callable[[], float], names: Sequence[str]) -> None:
        self.reading = reading
        self.totals: dict[str, float] = dict.fromkeys(names, 0.0)
        self._part: str | None = None
        self._since = 0.0
        self._whole = False  # inside a place that does not split

    def metered(
        self, part: str | Callable[[], str], work: Callable[..., Any], splits: bool = False
    ) -> Callable[..., Any]:
        """`work`, which counts to `part` while it runs."""

        def run(*args: Any, **kwargs: Any) -> Any:
            if self._whole:
                return work(*args, **kwargs)
            outer = self._switch(part() if callable(part) else part)
            self._whole = not splits
            try:
                return work(*args, **kwargs)
            finally:
                self._switch(outer)
                self._whole = False

        return run

    def _switch(self, part: str | None) -> str | None:
        now, outer = self.reading(), self._part
        if outer is not None:
            self.totals[outer] += now - self._since
        self._since, self._part = now, part
        return outer

    @contextmanager
    def at(self, places: Sequence[Place]) -> Iterator[None]:
        """Meter the places while the body runs; undone at the end.

        Nothing is hung on a module itself: an agent may take another way where something is.
        """
        with ExitStack() as stack:
            for owner, method, part, splits in places:
                work = self.metered(part, getattr(owner, method), splits)
                if isinstance(owner, nn.Module):
                    stack.enter_context(_patched_class(owner, method, work))
                else:
                    stack.enter_context(patch.object(owner, method, work))
            yield


def _patched_class(owner: nn.Module, method: str, work: Callable[..., Any]) -> Any:
    """`work` in place of the method of this one module, put into its class."""
    original = getattr(type(owner), method)

    def run(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        call = work if module is owner else partial(original, module)
        return call(*args, **kwargs)

    return patch.object(type(owner), method, run)
