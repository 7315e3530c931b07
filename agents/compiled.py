"""A function through `torch.compile` where that works, as it is where it does not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Compiled:
    """A pure function to a tuple of tensors, all of fixed shapes, compiled at its first call.

    On a GPU it is replayed as a CUDA graph; its results are then copied, since the next replay
    writes over them. Where compiling fails (no C++ compiler, say) a RuntimeWarning of one line says
    so and the function runs as it is. What was compiled is left behind when it is pickled.

    >>> double = Compiled(lambda x: (2.0 * x,))
    >>> double.compiled is None
    True
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]], device: str = "cpu") -> None:
        self.function, self.device = function, device
        self.compiled: Callable[..., tuple[Tensor, ...]] | None = None
        self.failed = False

    def __call__(self, *args: Any) -> tuple[Tensor, ...]:
        if self.failed:
            return self.function(*args)
        on_gpu = self.device == "cuda"
        if self.compiled is None:
            mode = "reduce-overhead" if on_gpu else None
            self.compiled = torch.compile(self.function, fullgraph=True, dynamic=False, mode=mode)
        try:
            result = self.compiled(*args)
        except Exception as error:  # a fault of the function itself comes again below
            self.failed = True
            lines = str(error).strip().splitlines()
            warnings.warn(
                "compile: torch.compile failed, so the update runs without it: "
                + ": ".join([type(error).__name__, *lines[:1]]),
                RuntimeWarning,
                stacklevel=2,
            )
            return self.function(*args)
        return tuple(tensor.clone() for tensor in result) if on_gpu else result

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"compiled": None}
