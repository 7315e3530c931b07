"""The compiled library: one variant for each instruction set, loaded through ctypes.

It was built at installation where there was a compiler. ``VAERL_NATIVE=0`` switches it off,
``VAERL_NATIVE=avx2`` (or another name in `VARIANTS`, or the path of a library) chooses one.
"""

from __future__ import annotations

import ctypes
import functools
import os
import struct
import threading
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).parent
VARIANTS = {"avx512": ("AVX512",), "avx2": ("AVX512", "AVX2"), "base": None}
"""Variant → what torch calls processors that can run it (None: all), the fastest first."""
BF16 = "bf16"
PRECISIONS = ("float32", BF16)
"""Of the factors of matrix products."""


class Missing(Exception):
    """No native library; the message says why."""


def runs_here(variant: str) -> bool:
    """Whether this processor has the instructions of a variant."""
    processors = VARIANTS[variant]
    return processors is None or torch.backends.cpu.get_cpu_capability() in processors


def load(wanted: str | None = None, folder: Path = FOLDER) -> tuple[str, ctypes.CDLL]:
    """The name of a variant and its library; `Missing` if there is none.

    Args:
        wanted: its name; that of ``VAERL_NATIVE``, or the fastest for this processor, if None.
    """
    return _load(wanted or os.environ.get("VAERL_NATIVE") or None, folder)


@functools.cache
def _load(wanted: str | None, folder: Path) -> tuple[str, ctypes.CDLL]:
    if wanted == "0":
        raise Missing("switched off by VAERL_NATIVE=0")
    if wanted is not None and wanted.endswith(".so"):
        try:
            return Path(wanted).stem, _open(Path(wanted))
        except (OSError, AttributeError) as error:
            raise Missing(f"VAERL_NATIVE: {_reason(wanted, error)}") from None
    if wanted is not None and wanted not in VARIANTS:
        raise Missing(f"VAERL_NATIVE: got {wanted!r}, expected 0 or one of {', '.join(VARIANTS)}")
    failures = []
    for name in VARIANTS:
        if not runs_here(name) or wanted not in (None, name):
            continue
        for path in sorted(folder.glob(f"_{name}.*.so")):
            try:
                return name, _open(path)
            except (OSError, AttributeError) as error:
                failures.append(_reason(path.name, error))
    raise Missing("; ".join(failures) or "not built: there was no compiler at installation")


def _reason(name: str, error: Exception) -> str:
    return f"{name} does not load ({str(error).splitlines()[0]})"


def _open(path: Path) -> ctypes.CDLL:
    head = path.read_bytes()[:64].ljust(64, b"\0")
    table, size, count = struct.unpack("<40xQ10xHH2x", head)
    if head[:4] == b"\x7fELF" and table + size * count > path.stat().st_size:
        raise OSError("cut off")  # the loader of Linux would end the process
    library = ctypes.CDLL(str(path))
    library.vaerl_sac_layout.restype = ctypes.c_int64
    library.vaerl_sac_update.restype = ctypes.c_int
    library.vaerl_sac_act.restype = ctypes.c_int
    library.vaerl_sac_sizes.restype = None
    library.vaerl_follow.restype = None
    library.vaerl_follow.argtypes = (
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_float,
        ctypes.c_int64,
    )
    library.vaerl_ppo_layout.restype = ctypes.c_int64
    library.vaerl_ppo_sizes.restype = None
    library.vaerl_ppo_act.restype = ctypes.c_int
    library.vaerl_ppo_update.restype = ctypes.c_int
    library.vaerl_sample_layout.restype = ctypes.c_int64
    library.vaerl_sample_sizes.restype = None
    library.vaerl_sample_pack.restype = None
    library.vaerl_sample.restype = None
    library.vaerl_latent_layout.restype = ctypes.c_int64
    library.vaerl_latent_sizes.restype = None
    library.vaerl_latent.restype = None
    return library


@functools.cache
def matching(wanted: str | None, name: str, spec: Any, call: Any) -> ctypes.CDLL | None:
    """The library, if it is there and lays out these structures for `name` as Python does."""
    try:
        found = load(wanted)[1]
    except Missing:
        return None
    size = ctypes.sizeof(spec) * 65536 + ctypes.sizeof(call)
    return found if getattr(found, f"vaerl_{name}_layout")() == size else None


def fields(kind: Any, names: str) -> list[tuple[str, Any]]:
    """Fields of one type in a C structure."""
    return [(name, kind) for name in names.split()]


def field(value: Any) -> Any:
    """A value for such a field; four numbers are an array of floats."""
    return (ctypes.c_float * 4)(*value) if isinstance(value, tuple) else value


def plain(tensor: torch.Tensor) -> bool:
    """Whether it holds float32 numbers of its own on the CPU, and nothing records what is done."""
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return False
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu" and not wrapped


def address(tensor: torch.Tensor | None) -> int | None:
    """Where its numbers lie."""
    return None if tensor is None else tensor.data_ptr()


_LOCAL = threading.local()


def workspace(size: int) -> torch.Tensor:
    """Memory that this thread uses again and again."""
    kept: torch.Tensor | None = getattr(_LOCAL, "memory", None)
    if kept is None or len(kept) < size:
        kept = _LOCAL.memory = torch.zeros(size, dtype=torch.float32)
    return kept


def lines() -> list[tuple[str, str]]:
    """What `vaerl list native` prints: the active variant, or why there is none."""
    try:
        return [(load()[0], "active")]
    except Missing as why:
        return [("none", f"all computations in torch: {why}")]
