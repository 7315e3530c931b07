"""Draws of a folded density (`vaerl.densities.fold`) at many contexts by the native library."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vaerl.densities.noise import Noise, standard_normal, uniform
from vaerl.native.covered import MAX_DEPTH
from vaerl.native.library import BF16, address, fields, matching, plain, workspace

ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.SiLU)
FIXED, NORMAL, MIXTURE, WEIGHTED = range(4)
MAX_THREADS = 2
ROWS_EACH = 64
"""Fewer are not worth a second thread."""


class Spec(ctypes.Structure):
    """`Spec` of sample.cpp."""

    _fields_ = (
        *fields(ctypes.c_int32, "members rows threads half depth"),
        *fields(ctypes.c_int32 * (MAX_DEPTH + 1), "widths"),
        *fields(ctypes.c_int32, "activation head components size layer hidden blocks events"),
        *fields(ctypes.c_float, "head_width layer_width"),
    )


class Call(ctypes.Structure):
    """`Call` of sample.cpp."""

    _fields_ = (
        *fields(ctypes.c_void_p, "context packed uniform head_noise layer_noise"),
        *fields(ctypes.c_int64, "member_step row_step"),
        *fields(ctypes.c_void_p, "out work"),
    )


class Sampler:
    """A folded density with at most one latent layer.

    Args:
        spec: its sizes, but for rows and threads.
        parts: its numbers in the order of sample.cpp, each with or without members in front.
    """

    def __init__(self, library: ctypes.CDLL, spec: Spec, parts: Sequence[Tensor]) -> None:
        self._library, self._spec, self._batched = library, spec, parts[0].ndim == 3
        members = spec.members
        rows = [part.detach().expand(members, *part.shape[-2:]).reshape(members, -1)
                for part in parts]  # fmt: skip
        flat, sizes = torch.cat(rows, 1).contiguous(), (ctypes.c_int64 * 2)()
        library.vaerl_sample_sizes(ctypes.byref(spec), sizes)
        self._work_size = sizes[0]
        self._packed = torch.zeros(members * sizes[1], dtype=torch.float32)
        pointers = (ctypes.c_void_p(each.data_ptr()) for each in (flat, self._packed))
        library.vaerl_sample_pack(ctypes.byref(spec), *pointers)

    def takes(self, context: Tensor) -> bool:
        """Whether these are contexts of all members, and no gradient is wanted."""
        s = self._spec
        members = (s.members,) if self._batched else ()
        wanted = context.requires_grad and torch.is_grad_enabled()
        shape = (*members, *context.shape[-2:-1], s.widths[0])
        return tuple(context.shape) == shape and len(shape) == 2 + len(members) and not wanted

    def __call__(self, context: Tensor, generator: Noise = None) -> Tensor:
        """One draw at each context ``(B, C)``, or ``(E, B, C)`` with E members, from the noise that
        torch's form reads."""
        s, batch = Spec.from_buffer_copy(self._spec), context.shape[:-1]
        s.rows, many = context.shape[-2], context.shape[:-1].numel() >= ROWS_EACH * MAX_THREADS
        s.threads = min(torch.get_num_threads(), MAX_THREADS) if many else 1
        seen = context if context.stride(-1) == 1 else context.contiguous()
        u = uniform(batch, seen, generator) if s.head >= MIXTURE else None
        head = standard_normal((*batch, s.size), seen, generator)
        layer = standard_normal((*batch, s.events), seen, generator) if s.layer else None
        drawn = context.new_empty((*batch, s.events if s.layer else s.size))
        call = Call(
            seen.data_ptr(),
            self._packed.data_ptr(),
            *map(address, (u, head, layer)),
            seen.stride(0) if seen.ndim == 3 else 0,
            seen.stride(-2),
            drawn.data_ptr(),
            workspace(s.threads * self._work_size).data_ptr(),
        )
        self._library.vaerl_sample(ctypes.byref(s), ctypes.byref(call))
        return drawn


def make_sampler(
    steps: Sequence[Any], head: Any, layers: Sequence[Any], precision: str
) -> Sampler | None:
    """The sampler of a density, as `vaerl.densities.fold.FoldedDensity` holds its parts.

    None without a library, or for other parts than plain stacks, normals or mixtures, and at most
    one layer. `precision` is that of the factors of matrix products, where the processor has it.
    """
    library = matching(os.environ.get("VAERL_NATIVE") or None, "sample", Spec, Call)
    affines, between = list(steps[::2]), list(steps[1::2])
    kinds = {type(step) for step in between}
    known = all(hasattr(a, "weight") for a in affines) and len(affines) <= MAX_DEPTH
    if library is None or not known or len(kinds) > 1 or not kinds <= set(ACTIVATIONS):
        return None
    tensors = [t for a in (*affines, *head.heads) for t in (a.weight, a.bias)]
    if not all(map(plain, tensors)):
        return None
    if len(between) != len(affines) - 1 or len(layers) > 1 or affines[0].weight.ndim > 3:
        return None
    layer, first = layers[0] if layers else None, affines[0].weight
    head_kind = FIXED if not head.heads else NORMAL
    if hasattr(head, "components"):
        head_kind = WEIGHTED if len(head.heads) > 1 else MIXTURE
    spec = Spec(
        members=len(first) if first.ndim == 3 else 1,
        rows=1,
        threads=1,
        half=precision == BF16 and library.vaerl_has_bfloat16(),
        depth=len(affines),
        activation=ACTIVATIONS.index(kinds.pop()) if kinds else 0,
        head=head_kind,
        components=getattr(head, "components", 1),
        size=head.size,
        head_width=head.sigma.width if head.heads else 0.0,
    )
    widths = [first.shape[-2], *(a.weight.shape[-1] for a in affines)]
    spec.widths[: len(widths)] = widths
    parts = [part for affine in affines for part in (affine.weight, affine.bias)]
    if head.heads:
        parts.append(_each(head.sigma.low, head.size))
    if layer is not None:
        spec.layer, spec.layer_width = 1, layer.sigma.width
        spec.hidden, spec.blocks, spec.events = layer.hidden, len(layer.blocks), layer.size
        parts.append(layer.enter.weight)
        for up, down in layer.blocks:
            parts += [up.weight, up.bias, down.weight]
        parts += [layer.leave.weight, layer.leave.bias, _each(layer.sigma.low, layer.size)]
    return Sampler(library, spec, parts)


def _each(low: Tensor, size: int) -> Tensor:
    """The lower end of log σ for each dimension."""
    return low.expand(*low.shape[:-1], size) if low.ndim else low.expand(size)
