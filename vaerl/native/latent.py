"""Bounds on log p(x | c) of a latent density with one layer by the native library, with gradients.

k paths, E members, B rows, X event and Z latent dimensions.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vaerl.native.covered import MAX_BLOCKS, MAX_DEPTH
from vaerl.native.library import Missing, address, field, fields, load, matching, plain, workspace

GRADIENTS = ("total", "stl", "dreg", "wake")
MAX_THREADS = 2
MAX_PATHS = 256
"""More at once would not fit into a processor's cache."""


class Spec(ctypes.Structure):
    """`LatentSpec` of latent.cpp."""

    _fields_ = (
        *fields(ctypes.c_int32, "members batch events latent_dim hidden blocks components"),
        *fields(ctypes.c_int32, "learned weighted paths threads frozen average gradient"),
        *fields(ctypes.c_int32 * 2, "context"),
        *fields(ctypes.c_int32, "depth"),
        *fields(ctypes.c_int32 * MAX_DEPTH, "embedding"),
        *fields(ctypes.c_float * 4, "action_range latent_range prior_range"),
    )


class Call(ctypes.Structure):
    """`LatentCall` of latent.cpp."""

    _fields_ = (
        *fields(ctypes.c_void_p, "x"),
        *fields(ctypes.c_void_p * 2, "context"),
        *fields(ctypes.c_void_p, "noise edges network upstream"),
        *fields(ctypes.c_float, "kl_weight"),
        *fields(ctypes.c_void_p, "bound log_w log_p log_q"),
        *fields(ctypes.c_void_p * 2, "d_context"),
        *fields(ctypes.c_void_p, "d_network work"),
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
class Conditioning:
    """A context and what is computed from it.

    Args:
        context: ``batch + (C,)``.
        embedding: linear layers with SiLUs behind them.
        heads: what is linear in their output, as `vaerl.densities.kernel.Kernel` has it.
    """

    context: Tensor
    embedding: Sequence[Any]
    heads: Any

    @classmethod
    def of(cls, network: nn.Module, context: Tensor, heads: Any) -> Conditioning:
        """With an embedding, which torch computes if it is not a plain stack."""
        layers = list(network.children()) if type(network) in (nn.Sequential, nn.Identity) else None
        if layers is not None and _plain(layers) and len(layers) <= 2 * (MAX_DEPTH - 1):
            return cls(context, layers[::2], heads)
        return cls(network(context), [], heads)

    @property
    def widths(self) -> list[int]:
        """Of the embedding's layers."""
        return [layer.bias.shape[-1] for layer in self.embedding]

    @property
    def parameters(self) -> list[list[Tensor]]:
        """Those of all layers, weights and biases by turns; what lies side by side is a list."""
        below = [[p] for layer in self.embedding for p in (layer.weight, layer.bias)]
        return [*below, list(self.heads.weights), list(self.heads.biases)]


def _plain(layers: Sequence[Any]) -> bool:
    """Whether these are linear layers and SiLUs by turns."""
    linear = all(
        getattr(layer, "bias", None) is not None and getattr(layer, "mask", None) is None
        for layer in layers[::2]
    )
    return linear and all(type(layer) is nn.SiLU for layer in layers[1::2]) and not len(layers) % 2


@dataclass(frozen=True)
class Conditioned:
    """A latent density at given contexts.

    Args:
        conditionings: of p, and of q but with fixed codes.
        networks: all other parameters, of p and of q.
        sizes: of the density, see `vaerl.densities.kernel.Kernel`.
        edges: between the prior's components, where its weights are equal.
    """

    conditionings: Sequence[Conditioning]
    networks: Sequence[Tensor]
    sizes: Mapping[str, Any]
    edges: Tensor | None

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
        contexts = [each.context for each in self.conditionings]
        widths, members = self.conditionings[0].widths, _members(self.networks)
        spec = Spec(
            members=members,
            batch=x[..., 0].numel() // members,
            events=x.shape[-1],
            paths=len(noise),
            threads=min(torch.get_num_threads(), MAX_THREADS),
            depth=len(widths),
            **{k: field(v) for k, v in self.sizes.items() if hasattr(Spec, k)},
            **options,
        )
        spec.embedding[: len(widths)] = widths
        spec.context[: len(contexts)] = [context.shape[-1] for context in contexts]
        network = self._flat(members)
        given = (network, *contexts)
        wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given)
        return Bound(*_Bound.apply(spec, kl_weight, wanted, self.edges, x, noise, *given))

    def _flat(self, members: int) -> Tensor:
        """All parameters ``(members, N)`` as the library takes them: those of the layers of the
        contexts begin at multiples of 16."""
        parts: list[Tensor] = []
        for group in (group for each in self.conditionings for group in each.parameters if group):
            rows = [parameter.reshape(members, -1) for parameter in group]
            missing = -sum(row.shape[1] for row in rows) % 16
            parts += [*rows, rows[0].new_zeros(members, missing)] if missing else rows
        return torch.cat([*parts, *(p.reshape(members, -1) for p in self.networks)], 1)


def _members(networks: Sequence[Tensor]) -> int:
    return len(networks[0]) if networks[0].ndim == 3 else 1


def covers(
    sizes: Mapping[str, Any],
    networks: Sequence[Tensor],
    context: Tensor,
    x: Tensor,
    paths: int,
    codes: Tensor | None,
) -> bool:
    """Whether the library is there and knows everything about a density at these contexts.

    Args:
        sizes, networks: see `Conditioned`.
        codes: where they are fixed.
    """
    fixed = [x] if codes is None else [x, codes]
    tensors = (context, *fixed, *networks)
    if not all(map(plain, tensors)):
        return False
    if any(t.requires_grad for t in fixed) or x.shape[:-1] != context.shape[:-1] or not len(x):
        return False
    if paths > MAX_PATHS:
        return False
    if codes is not None and sizes.get("weighted"):
        return False
    ranks = {p.ndim for p in networks}
    members = context.ndim > 2 and _members(networks) == len(context)
    alike = members if ranks == {3} else ranks <= {1, 2}
    return alike and sizes["blocks"] <= MAX_BLOCKS and library() is not None


def way(kernel: Any) -> str:
    """Which way a density with this kernel is fitted, for a line of the log."""
    if kernel is None or not kernel.sizes.get("latent"):
        return "torch, the native one is for latent densities with one layer"
    try:
        variant = load()[0]
    except Missing as why:
        return f"torch, the native one is missing: {why}"
    if library() is None:
        return "torch, the native one was built from other sources: install vaerl again"
    return f"native, {variant}, threads: {min(torch.get_num_threads(), MAX_THREADS)}"


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
        needed = ctx.needs_input_grad[-(len(tensors) - 3) :]  # in the contexts
        ctx.save_for_backward(*tensors)
        ctx.common = spec, kl_weight, edges, needed
        inputs = _Inputs.of(ctx.common, tensors)
        outputs, ctx.gradients = inputs.run(gradient=wanted and not spec.frozen)
        ctx.mark_non_differentiable(*outputs[1:])
        return outputs

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Any) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "create_graph: got True, expected False: the native library gives no second "
                "derivatives of a bound; VAERL_NATIVE=0 switches it off"
            )
        inputs, gradients = _Inputs.of(ctx.common, ctx.saved_tensors), ctx.gradients
        members = inputs.spec.members
        slope = upstream.reshape(members, -1)
        if gradients is not None and bool((slope == slope[:, :1]).all()):
            for gradient in gradients:
                if gradient is not None:
                    gradient.view(members, -1).mul_(slope[:, :1])
        else:
            _, gradients = inputs.run(gradient=True, upstream=upstream.contiguous())
        ctx.gradients = None
        return (None,) * 6 + tuple(gradients)


class _Inputs(NamedTuple):
    """Everything that a call reads."""

    spec: Spec
    kl_weight: float
    edges: Tensor | None
    x: Tensor
    noise: Tensor
    network: Tensor
    contexts: Sequence[Tensor]
    needed: Sequence[bool]
    """Whether derivatives in the contexts are."""

    @classmethod
    def of(cls, common: tuple[Any, ...], tensors: Sequence[Tensor]) -> _Inputs:
        """Of what a call has in common with its gradient."""
        spec, kl_weight, edges, needed = common
        x, noise, network, *contexts = (t.contiguous() for t in tensors)
        return cls(spec, kl_weight, edges, x, noise, network, contexts, needed)

    def run(
        self, gradient: bool, upstream: Tensor | None = None
    ) -> tuple[tuple[Tensor, ...], list[Tensor | None] | None]:
        """The outputs of a `Bound`, and the gradients in the network and in the contexts."""
        s, batch = self.spec, self.x.shape[:-1]
        shape = (0,) if s.frozen else (s.paths, *batch)
        outputs = (self.x.new_empty(batch), *(self.x.new_empty(shape) for _ in range(3)))
        found: list[Tensor | None] = [None] * len(self.contexts)
        network = None
        if gradient:
            given = zip(self.contexts, self.needed, strict=True)
            found = [torch.empty_like(c) if needed else None for c, needed in given]
            network = self.network.new_zeros(s.threads, *self.network.shape)
        native, sizes = library(), (ctypes.c_int64 * 2)()
        assert native is not None, "covers() has seen it"
        native.vaerl_latent_sizes(ctypes.byref(s), sizes)
        assert self.network.shape == (s.members, sizes[1]), (self.network.shape, sizes[1])
        pair = ctypes.c_void_p * 2
        call = Call(
            address(self.x),
            pair(*map(address, self.contexts)),
            *map(address, (self.noise, self.edges, self.network, upstream)),
            self.kl_weight,
            *map(address, outputs),
            pair(*map(address, found)),
            address(network),
            workspace(sizes[0]).data_ptr(),
        )
        native.vaerl_latent(ctypes.byref(s), ctypes.byref(call))
        if network is None:
            return outputs, None
        return outputs, [network.sum(0) if s.threads > 1 else network[0], *found]


def unhooked(network: nn.Module) -> bool:
    """Whether nobody wants to be called when a part of a network is."""
    return not any(
        m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks
        for m in network.modules()
    )
