"""A function through `torch.compile` where that works, as it is where it does not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

Run = Callable[..., tuple[Tensor, ...]]
Shapes = tuple[torch.Size, ...]

MOST_SHAPES = 8
"""Shapes of its arguments for which a function is compiled, since each costs up to a minute."""


class Compiled:
    """A pure function to a tuple of tensors, compiled when its arguments first have a shape.

    On a GPU it is replayed as a CUDA graph; its results are then copied, since the next replay
    writes over them. A shape for which compiling fails (no C++ compiler, say) and all shapes past
    `MOST_SHAPES` run as they are, and a RuntimeWarning of one line says so. What was compiled is
    left behind when it is pickled.

    >>> double = Compiled(lambda x: (2.0 * x,))
    >>> double.by_shape
    {}
    """

    def __init__(self, function: Run, device: str = "cpu") -> None:
        self.function, self.device = function, device
        self.by_shape: dict[Shapes, Run] = {}

    def __call__(self, *args: Any) -> tuple[Tensor, ...]:
        shapes = tuple(arg.shape for arg in args if isinstance(arg, Tensor))
        run = self.by_shape.get(shapes) or self._made_for(shapes)
        if run is self.function:
            return run(*args)
        try:
            result = run(*args)
        except Exception as error:  # a fault of the function itself comes again below
            self.by_shape[shapes] = self.function
            lines = str(error).strip().splitlines()
            _warn(
                f"torch.compile failed for a batch of {_words(shapes)}, so its updates run without "
                "it: " + ": ".join([type(error).__name__, *lines[:1]])
            )
            return self.function(*args)
        return tuple(tensor.clone() for tensor in result) if self.device == "cuda" else result

    def _made_for(self, shapes: Shapes) -> Run:
        count = len(self.by_shape)
        if count > MOST_SHAPES:  # as was said of the first one too many
            return self.function
        run = self.function
        if count < MOST_SHAPES:
            mode = "reduce-overhead" if self.device == "cuda" else None
            run = torch.compile(_own_code(run), fullgraph=True, dynamic=False, mode=mode)
        else:
            _warn(
                f"compiled for {count} shapes of batches, the most there are, so updates on "
                f"further ones run without it, as for {_words(shapes)}"
            )
        self.by_shape[shapes] = run
        return run

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"by_shape": {}}


def _own_code(function: Run) -> Run:
    """The same function on a code object of its own: torch counts recompilations of each."""
    if not isinstance(function, FunctionType):
        return function
    copy = FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def _words(shapes: Shapes) -> str:
    return " and ".join(str(tuple(shape)) for shape in shapes)


def _warn(line: str) -> None:
    warnings.warn(f"compile: {line}", RuntimeWarning, stacklevel=3)
