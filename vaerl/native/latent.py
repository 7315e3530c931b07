"""Bounds on log p(x | c) of a latent density with one layer by the native library, with gradients.

k paths, E members, B rows, X event and Z latent dimensions.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vaerl.native.covered import MAX_BLOCKS
from vaerl.native.library import Missing, address, field, fields, load, matching, workspace

GRADIENTS = ("total", "stl", "dreg", "wake")
MAX_THREADS = 2
MAX_PATHS = 256
"""More at once would not fit into a processor's cache."""


class Spec(ctypes.Structure):
    """`LatentSpec` of latent.cpp."""

    _fields_ = (
        *fields(ctypes.c_int32, "members batch events latent_dim hidden blocks components"),
        *fields(ctypes.c_int32, "learned weighted paths threads frozen average gradient"),
        *fields(ctypes.c_float * 4, "action_range latent_range prior_range"),
    )


class Call(ctypes.Structure):
    """`LatentCall` of latent.cpp."""

    _fields_ = (
        *fields(ctypes.c_void_p, "x decoder encoder prior noise edges network upstream"),
        *fields(ctypes.c_float, "kl_weight"),
        *fields(ctypes.c_void_p, "bound log_w log_p log_q"),
        *fields(ctypes.c_void_p, "d_decoder d_encoder d_prior d_network work"),
    )


class Bound(NamedTuple):
    """What the library has found."""

    bound: Tensor
    """L_k or the mean ELBO, or log p(x | c) of fixed codes ``batch``, with a gradient."""
    log_w: Tensor
    """Log-weights ``(k,) + batch`` without gradient; empty with fixed codes, as the next two."""
    log_p: Tensor
    log_q: Tensor


@dataclass(frozen=True)
class Rows:
    """A latent density at given contexts, as its linear maps of the context give it.

    Args:
        decoder, encoder: FiLM coefficients ``batch + (R,)``; no encoder with fixed codes.
        prior: its parameters, and log-weights where they are learned.
        kernel: sizes and all other parameters.
    """

    decoder: Tensor
    encoder: Tensor | None
    prior: Tensor | None
    kernel: Any

    def bound(
        self, x: Tensor, noise: Tensor, kl_weight: float, average: bool, gradient: str
    ) -> Bound:
        """The bound at events ``batch + (X,)`` with noise ``(k,) + batch + (Z,)``.

        Args:
            average: the mean of the log-weights instead of the logarithm of the weights' mean.
            gradient: of the encoder, see `vaerl.bounds.EncoderGradient`.
        """
        options = {"average": average, "gradient": GRADIENTS.index(gradient)}
        return self._apply(x, noise, kl_weight, options)

    def log_prob(self, x: Tensor, codes: Tensor) -> Tensor:
        """log p(x | c) of the equal mixture over codes ``(k, 1 + Z)`` at events ``batch +
        (X,)``."""
        return self._apply(x, codes, 1.0, {"frozen": 1}).bound

    def _apply(self, x: Tensor, noise: Tensor, kl_weight: float, options: dict[str, int]) -> Bound:
        network = self.kernel.network
        members = len(network[0]) if network[0].ndim == 3 else 1
        spec = Spec(
            members=members,
            batch=x[..., 0].numel() // members,
            events=x.shape[-1],
            paths=len(noise),
            threads=min(torch.get_num_threads(), MAX_THREADS),
            **{k: field(v) for k, v in self.kernel.sizes.items() if hasattr(Spec, k)},
            **options,
        )
        rows = (self.decoder, self.encoder, self.prior)
        given = [t for t in (*rows, *network) if t is not None]
        wanted = torch.is_grad_enabled() and any(t.requires_grad for t in given)
        common = (spec, kl_weight, wanted, self.kernel.edges, x, noise)
        return Bound(*_Bound.apply(*common, *rows, *network))


def covers(kernel: Any, context: Tensor, x: Tensor, paths: int, codes: Tensor | None) -> bool:
    """Whether the library is there and knows everything about a density at these contexts.

    Args:
        kernel: the density's.
        codes: where they are fixed.
    """
    fixed = [x] if codes is None else [x, codes]
    tensors = (context, *fixed, *kernel.network)
    if any(t.dtype != torch.float32 or t.device.type != "cpu" for t in tensors):
        return False
    if any(t.requires_grad for t in fixed) or x.shape[:-1] != context.shape[:-1] or not len(x):
        return False
    if paths > MAX_PATHS or torch.jit.is_tracing() or torch.compiler.is_compiling():
        return False
    ranks = {p.ndim for p in kernel.network}
    members = context.ndim > 2 and len(kernel.network[0]) == len(context)
    plain = members if ranks == {3} else ranks <= {1, 2}
    return plain and kernel.sizes["blocks"] <= MAX_BLOCKS and library() is not None


def way(kernel: Any) -> str:
    """Which way a density with this kernel is fitted, for a line of the log."""
    if kernel is None or not kernel.sizes.get("latent"):
        return "torch, the native one is for latent densities with one layer"
    try:
        return f"native, {load()[0]}, threads: {min(torch.get_num_threads(), MAX_THREADS)}"
    except Missing as why:
        return f"torch, the native one is missing: {why}"


def library() -> ctypes.CDLL | None:
    """The native library; None where there is none."""
    return matching(os.environ.get("VAERL_NATIVE") or None, "latent", Spec, Call)


class _Bound(torch.autograd.Function):
    """The gradient is found along with a bound, for derivatives of the loss that are equal in all
    rows of a member, as a mean has them; for others it is found again."""

    @staticmethod
    def forward(
        ctx: Any, spec: Spec, kl_weight: float, wanted: bool, edges: Any, *tensors: Any
    ) -> Any:
        x, noise, decoder, encoder, prior, *network = tensors
        flat = torch.cat([p.reshape(spec.members, -1) for p in network], 1)
        given = (edges, x, noise, decoder, encoder, prior, flat)
        dense: list[Any] = [None if t is None else t.contiguous() for t in given]
        inputs = _Inputs(spec, kl_weight, *dense)
        ctx.inputs, ctx.shapes = inputs, [p.shape for p in network]
        outputs, ctx.gradients = inputs.run(gradient=wanted and not spec.frozen)
        ctx.mark_non_differentiable(*outputs[1:])
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, *_: Any) -> Any:
        inputs, gradients = ctx.inputs, ctx.gradients
        members = inputs.spec.members
        slope = upstream.reshape(members, -1)
        if gradients is not None and bool((slope == slope[:, :1]).all()):
            for gradient in gradients:
                if gradient is not None:
                    gradient.view(members, -1).mul_(slope[:, :1])
        else:
            _, gradients = inputs.run(gradient=True, upstream=upstream.contiguous())
        ctx.gradients = None
        *rows, network = gradients
        parts = network.split([s.numel() // members for s in ctx.shapes], 1)
        parts = [part.reshape(shape) for part, shape in zip(parts, ctx.shapes, strict=True)]
        return (None,) * 6 + (*rows, *parts)


class _Inputs(NamedTuple):
    """Everything that a call reads."""

    spec: Spec
    kl_weight: float
    edges: Tensor | None
    x: Tensor
    noise: Tensor
    decoder: Tensor
    encoder: Tensor | None
    prior: Tensor | None
    network: Tensor

    def run(
        self, gradient: bool, upstream: Tensor | None = None
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor | None, ...] | None]:
        """The outputs of a `Bound`, and the gradients in decoder, encoder, prior and network."""
        s, batch = self.spec, self.x.shape[:-1]
        shape = (0,) if s.frozen else (s.paths, *batch)
        outputs = (self.x.new_empty(batch), *(self.x.new_empty(shape) for _ in range(3)))
        found: tuple[Tensor | None, ...] = (None,) * 4
        if gradient:
            rows = (self.decoder, self.encoder, self.prior)
            network = self.network.new_zeros(s.threads, *self.network.shape)
            found = (*(None if t is None else torch.empty_like(t) for t in rows), network)
        native = library()
        assert native is not None, "covers() has seen it"
        call = Call(
            *map(address, (self.x, self.decoder, self.encoder, self.prior, self.noise)),
            *map(address, (self.edges, self.network, upstream)),
            self.kl_weight,
            *map(address, (*outputs, *found)),
            workspace(native.vaerl_latent_work(ctypes.byref(s))).data_ptr(),
        )
        native.vaerl_latent(ctypes.byref(s), ctypes.byref(call))
        if not gradient:
            return outputs, None
        return outputs, (*found[:3], network.sum(0) if s.threads > 1 else network[0])


def unhooked(modules: Sequence[nn.Module]) -> bool:
    """Whether nobody wants to be called when these modules are."""
    return not any(
        m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks
        for m in modules
    )
