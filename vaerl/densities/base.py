"""The contract of a conditional density p(x | c).

A density is an `nn.Module` that keeps parameters and no sampling state. Calling it with a context
returns a value, a `torch.distributions.Distribution`, in which names say whether a number is exact,
a bound or an estimate.

Shapes, everywhere: context ``(*batch, C)``; samples ``sample_shape + batch + (X,)``; log-densities
``sample_shape + batch``, in nats.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaerl.densities.fold import Folded, Standardise
from vaerl.densities.noise import Shape
from vaerl.densities.options import check_positive

Latents = tuple[Tensor, ...]
Info = dict[str, Tensor]


class Bounds(NamedTuple):
    """Lower and upper bound on one quantity, in nats; `upper` is None where no upper bound can be
    had."""

    lower: Tensor
    upper: Tensor | None


class IntractableError(NotImplementedError):
    """A quantity was asked for that the density can only bound; the message names the calls that
    work."""


class ConditionalValue(Distribution):
    """p(x | c) at given contexts: what calling a density returns.

    Densities with an exact log-density implement `rsample` and `log_prob`; the rest follows from
    these. A latent-variable density overrides the calls that bound.
    """

    exact: ClassVar[bool] = True
    has_rsample = True
    dtype: torch.dtype | None = None
    """Floating-point type of contexts and events, where it is known."""
    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, batch_shape: torch.Size, event_dim: int) -> None:
        super().__init__(torch.Size(batch_shape), torch.Size((event_dim,)), validate_args=False)

    @property
    def event_dim(self) -> int:
        """Number of dimensions of x."""
        return self.event_shape[0]

    @abstractmethod
    def rsample(self, sample_shape: Shape = (), generator: torch.Generator | None = None) -> Tensor:
        """Reparameterised samples, ``sample_shape + batch + (X,)``."""

    def sample(self, sample_shape: Shape = (), generator: torch.Generator | None = None) -> Tensor:
        """Samples without gradient, ``sample_shape + batch + (X,)``."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator)

    def rsample_with_latents(
        self, sample_shape: Shape = (), generator: torch.Generator | None = None
    ) -> tuple[Tensor, Latents]:
        """Samples and the latent path that generated each of them, h_1 first; ``()`` without
        latents."""
        return self.rsample(sample_shape, generator), ()

    def rsample_and_log_prob(
        self,
        k: int = 8,
        sample_shape: Shape = (),
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """A reparameterised sample and its log-density: exact, or the upper bound U_k of a latent
        density."""
        x = self.rsample(sample_shape, generator)
        return x, self.log_prob(x)

    def log_prob_bounds(
        self,
        x: Tensor,
        k: int = 64,
        latents: Latents | None = None,
        generator: torch.Generator | None = None,
    ) -> Bounds:
        """Lower and upper bound on log p(x | c); both are the log-density itself where that is
        exact."""
        check_positive("k", k, at_least=1 if latents is None else 0)
        log_prob = self.log_prob(x)
        return Bounds(log_prob, log_prob)

    @abstractmethod
    def mode(self, n: int = 32) -> Tensor:  # type: ignore[override]  # torch has a property here
        """The best of n fixed candidates by density, ``batch + (X,)``; deterministic."""

    def entropy(self) -> Tensor:
        """Exact entropy in nats, where a closed form exists."""
        raise IntractableError(
            f"entropy() of {type(self).__name__} has no closed form; use entropy_bounds(k, n)"
        )

    def entropy_bounds(
        self, k: int = 64, n: int = 256, generator: torch.Generator | None = None
    ) -> Bounds:
        """Monte-Carlo means over n samples of −U_k and −L_k, which bound the entropy (equal if
        exact).

        The bound holds in expectation: −E U_k ≤ H ≤ −E L_k. Shape ``batch``, in nats.
        """
        check_positive("n", n)
        check_positive("k", k)
        with torch.no_grad():
            x, latents = self.rsample_with_latents((n,), generator)
            bounds = self.log_prob_bounds(x, k, latents, generator)
        assert bounds.upper is not None, "samples carry their latents, so an upper bound exists"
        return Bounds(-bounds.upper.mean(0), -bounds.lower.mean(0))

    @property
    def mean(self) -> Tensor:
        """E[x | c] where a closed form exists."""
        raise IntractableError(f"mean of {type(self).__name__} has no closed form; average samples")

    @property
    def variance(self) -> Tensor:
        """Var[x | c] of each dimension where a closed form exists."""
        raise IntractableError(f"variance of {type(self).__name__} has no closed form; use samples")

    def _check_event(self, x: Tensor) -> Tensor:
        """Return x if it is finite and ``sample_shape + batch + (X,)``, else raise one line."""
        x = check_matrix("x", x, self.event_dim)
        check_dtype("x", x, self.dtype)
        batch = tuple(self.batch_shape)
        if batch and tuple(x.shape[:-1])[-len(batch) :] != batch:
            raise ValueError(
                f"x: got shape {tuple(x.shape)}, expected (*sample_shape, "
                f"{', '.join(map(str, (*batch, self.event_dim)))})"
            )
        return x


class ConditionalDensity(nn.Module):
    """A conditional density p(x | c) with learnable parameters.

    Args:
        context_dim: C, the size of a context (0 < C).
        event_dim: X, the size of an event (0 < X).
        squash: if True the density is that of x = tanh(u) in (−1, 1)^X, everything computed in
            u-space.
        whole: events are whole numbers, for densities that have this option; not with `squash`.
    """

    name: ClassVar[str] = "density"

    def __init__(
        self, context_dim: int, event_dim: int, *, squash: bool = False, whole: bool = False
    ) -> None:
        super().__init__()
        for argument, size in (("context_dim", context_dim), ("event_dim", event_dim)):
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise ValueError(f"{argument}: got {size!r}, expected a whole number of at least 1")
        self.context_dim = context_dim
        self.event_dim = event_dim
        for argument, flag in (("squash", squash), ("whole", whole)):
            if not isinstance(flag, bool):
                raise ValueError(f"{argument}: got {flag!r}, expected True or False")
        if squash and whole:
            raise ValueError("whole: got True with squash, expected one of them: (−1, 1) holds 0")
        self.squash = squash
        self.whole = whole

    @abstractmethod
    def _value(self, context: Tensor) -> ConditionalValue:
        """The (unsquashed) value at checked contexts."""

    def forward(self, context: Tensor) -> ConditionalValue:
        """The distribution p(x | c), batch shape ``context.shape[:-1]``."""
        from vaerl.densities.squash import SquashedValue

        value = self._value(self._check_context(context))
        value.dtype = context.dtype
        return SquashedValue(value) if self.squash else value

    def fold(
        self, inputs: Standardise | None = None, targets: Standardise | None = None
    ) -> Folded | None:
        """A fast form for drawing without gradients, or None where the density has none.

        It is a snapshot: fold again after the parameters have changed.

        Args:
            inputs: (mean, scale) of contexts: the form takes raw ones, and standardises them.
            targets: (mean, scale) of events: the form gives them in their own units.
        """
        return None

    def _check_context(self, context: Tensor) -> Tensor:
        context = check_matrix("context", context, self.context_dim)
        own = next((p.dtype for p in self.parameters()), None)
        return check_dtype("context", context, own)

    def _check_pair(self, context: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return context and x if both are legal and of one batch shape, else raise one line."""
        context = self._check_context(context)
        x = check_dtype("x", check_matrix("x", x, self.event_dim), context.dtype)
        if self.whole and not torch.equal(x, x.round()):
            bad = x[x != x.round()][0].item()
            raise ValueError(
                f"x: got {bad:.6g}, expected whole numbers: the density has whole=True"
            )
        if context.shape[:-1] != x.shape[:-1]:
            raise ValueError(
                f"x: got batch shape {tuple(x.shape[:-1])}, context has {tuple(context.shape[:-1])}"
            )
        return context, x

    def loss(
        self,
        context: Tensor,
        x: Tensor,
        *,
        diagnostics: bool = True,
        kl_weight: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Info]:
        """Per-sample objective to minimise, shape ``batch``, and diagnostics (0-d tensors without
        gradient).

        Here: the negative log-likelihood −log p(x | c). Latent densities minimise a negative bound,
        draw from `generator`, leave the costly diagnostics out with ``diagnostics=False``, and
        multiply what their latents cost by `kl_weight`; the others have nothing to weigh.
        """
        context, x = self._check_pair(context, x)
        loss = -self(context).log_prob(x)
        return loss, {"nll": loss.detach().mean()}


def check_dtype(argument: str, value: Tensor, expected: torch.dtype | None) -> Tensor:
    """Return `value` if it has the expected floating-point type, else raise one line."""
    if expected is not None and value.dtype != expected:
        raise TypeError(
            f"{argument}: got {value.dtype}, expected {expected} as the density; "
            "convert one with .to(dtype)"
        )
    return value


def check_matrix(argument: str, value: Tensor, size: int) -> Tensor:
    """Return `value` if it is a non-empty, finite float tensor ``(*batch, size)``, else raise one
    line."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{argument}: got {kind}, expected a floating-point torch.Tensor")
    if value.ndim == 0 or value.shape[-1] != size:
        raise ValueError(f"{argument}: got shape {tuple(value.shape)}, expected (*batch, {size})")
    if value.numel() == 0:
        raise ValueError(
            f"{argument}: got the empty shape {tuple(value.shape)}, expected at least one row"
        )
    # One number tells of all, unless finite ones overflow in the sum: then each is looked at.
    if not math.isfinite(value.detach().sum()) and not torch.isfinite(value).all():
        bad = int((~torch.isfinite(value)).any(-1).sum())
        raise ValueError(
            f"{argument}: {bad} of {value[..., 0].numel()} rows hold NaN or infinity, "
            "expected finite numbers"
        )
    return value
