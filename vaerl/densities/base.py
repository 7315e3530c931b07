"""The contract of a conditional density p(x | c).

A density is an `nn.Module` that keeps parameters and no sampling state. Calling it with a context
returns a value, a `torch.distributions.Distribution`, in which names say whether a number is exact,
a bound or an estimate.

Shapes, everywhere: context ``(*batch, C)``; samples ``sample_shape + batch + (X,)``; log-densities
``sample_shape + batch``, in nats.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, NoReturn

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaerl.densities.kernel import Kernel
from vaerl.densities.noise import Noise, Shape
from vaerl.densities.options import check_flag, check_positive
from vaerl.disk.errors import NotFinite

Latents = tuple[Tensor, ...]
Info = dict[str, Tensor]
Standardise = tuple[Tensor, Tensor]
"""Mean and scale: a density sees or draws (x − mean) / scale."""


class Bounds(NamedTuple):
    """Lower and upper bound on one quantity, in nats; `upper` is None where no upper bound can be
    had."""

    lower: Tensor
    upper: Tensor | None


class IntractableError(NotImplementedError):
    """The density can only bound the requested quantity; the message names the calls that work."""


class ConditionalValue(Distribution):
    """p(x | c) at given contexts: the result of calling a density.

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
    def rsample(self, sample_shape: Shape = (), generator: Noise = None) -> Tensor:
        """Reparameterised samples, ``sample_shape + batch + (X,)``."""

    def sample(self, sample_shape: Shape = (), generator: Noise = None) -> Tensor:
        """Samples without gradient, ``sample_shape + batch + (X,)``."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator)

    def sample_mean(self, sample_shape: Shape = (), generator: Noise = None) -> Tensor:
        """E[x | z, c] at a randomly drawn latent or component z, ``sample_shape + batch + (X,)``.

        A sample without decoder noise: it shows the modes but not the spread within each. Without
        latents it is the mean; where z determines x, as in a flow, it is an ordinary sample.
        """
        return self.sample(sample_shape, generator)

    def rsample_with_latents(
        self, sample_shape: Shape = (), generator: Noise = None
    ) -> tuple[Tensor, Latents]:
        """Samples and the latent path that generated each of them, h_1 first; ``()`` without
        latents."""
        return self.rsample(sample_shape, generator), ()

    def rsample_and_log_prob(
        self,
        k: int = 8,
        sample_shape: Shape = (),
        generator: Noise = None,
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
        generator: Noise = None,
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

    def entropy_bounds(self, k: int = 64, n: int = 256, generator: Noise = None) -> Bounds:
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

    def entropy_estimate(
        self,
        samples: int,
        generator: Noise = None,
        change: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Unbiased −mean log p(x) over fresh reparameterised samples, ``batch``, differentiable.

        With `change`, that of a function of x whose log |dx'/dx| it gives.
        """
        x, log_prob = self.rsample_and_log_prob(0, (samples,), generator)
        return -(log_prob if change is None else log_prob - change(x)).mean(0)

    def inside(self, x: Tensor) -> Tensor:
        """x, moved off the edge of the support by a rounding so that `log_prob` is finite."""
        return x

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


class Folded(ABC):
    """The fast form of a density, without gradients and without checks of its inputs.

    A snapshot of the parameters: fold again after they have changed.
    """

    matmul_precision = "float32"
    """Of the factors of matrix products in native draws; set it before the first."""

    @abstractmethod
    def __call__(self, context: Tensor, generator: Noise = None) -> Tensor:
        """One draw at each context, ``batch + (X,)``, from the noise that the modules use."""

    @abstractmethod
    def value(self, context: Tensor, codes: Tensor | None = None) -> ConditionalValue:
        """The exact value at each context; for a latent density the mixture over `codes`."""

    @abstractmethod
    def mode(self, context: Tensor, n: int = 32) -> Tensor:
        """The best of n candidates, ``batch + (X,)``, as `ConditionalValue.mode`."""


class ConditionalDensity(nn.Module):
    """A conditional density p(x | c) with learnable parameters.

    Args:
        context_dim: C, the size of a context (0 < C).
        event_dim: X, the size of an event (0 < X).
        whole: events are whole numbers, for densities that have this option.

    A density with latents also has codes: fixed numbers that determine the latents. A density
    without latents has `code_dim` 0 and no recognition parameters, and rejects calls that take
    codes.
    """

    name: str = "density"
    sample_mean_kind: str = "sample"
    """What `sample_mean` of its values gives: "mean", E[x | c] at every call; "latent",
    E[x | z, c] at a drawn latent or component; "sample", x with all its noise."""
    options_for: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Options by use where they differ from the defaults: in an "off"-policy, "on"-policy or
    "chunk" head, and for "dynamics".

    A policy's trunk has already digested the observation, so heads read it linearly. A density
    improved through its own samples (off-policy) keeps mixture weights equal: weights have no
    pathwise gradient, and what reaches them through log π alone is noise of mean zero. On-policy
    gradients go through log π(a), which trains weights as well. Log σ stays above −5, so that no
    action collapses onto a point.
    """

    def __init__(self, context_dim: int, event_dim: int, *, whole: bool = False) -> None:
        super().__init__()
        for argument, size in (("context_dim", context_dim), ("event_dim", event_dim)):
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise ValueError(f"{argument}: got {size!r}, expected a whole number of at least 1")
        self.context_dim = context_dim
        self.event_dim = event_dim
        self.whole = check_flag("whole", whole)

    @abstractmethod
    def _value(self, context: Tensor) -> ConditionalValue:
        """The value at checked contexts."""

    def forward(self, context: Tensor) -> ConditionalValue:
        """The distribution p(x | c), batch shape ``context.shape[:-1]``."""
        value = self._value(self._check_context(context))
        value.dtype = context.dtype
        return value

    def fold(
        self, inputs: Standardise | None = None, targets: Standardise | None = None
    ) -> Folded | None:
        """The fast form of the density, or None.

        Args:
            inputs: (mean, scale) of contexts; the fast form then takes raw ones and standardises
                them.
            targets: (mean, scale) of events; the fast form then returns them in their original
                units.
        """
        return None

    def kernel(self) -> Kernel | None:
        """The density as the native update computes it, or None."""
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
        generator: Noise = None,
    ) -> tuple[Tensor, Info]:
        """Per-sample objective to minimise, shape ``batch``, and diagnostics (0-d tensors without
        gradient).

        By default the negative log-likelihood −log p(x | c). Latent densities minimise a negative
        bound, draw from `generator`, skip costly diagnostics with ``diagnostics=False`` and
        multiply their KL term by `kl_weight`; other densities ignore these arguments.
        """
        context, x = self._check_pair(context, x)
        return self._loss(context, x, 0.0, diagnostics, kl_weight, generator)

    def _loss(
        self,
        context: Tensor,
        x: Tensor,
        change: Tensor | float,
        diagnostics: bool,
        kl_weight: float,
        generator: Noise,
    ) -> tuple[Tensor, Info]:
        """`loss` at checked arguments, for a function of x whose log |dx'/dx| is `change`."""
        loss = change - self(context).log_prob(x)
        return loss, {"nll": loss.detach().mean()}

    # -- latent codes ------------------------------------------------------------------------------

    @property
    def code_dim(self) -> int:
        """Size of one latent code; 0 for a density without latents."""
        return 0

    def recognition_parameters(self) -> list[nn.Parameter]:
        """Parameters of q(z | x, c), which sampling does not use."""
        return []

    def sleep_losses(
        self,
        contexts: Tensor,
        generator: Noise = None,
        change: Callable[[Tensor], Tensor] | None = None,
    ) -> Iterator[Tensor]:
        """Losses that fit them to the density's own samples: see `vaerl.densities.sleep`."""
        return iter(())

    def draw_codes(self, count: int, seed: int) -> Tensor:
        """`count` codes ``(count, code_dim)``, spread more evenly than independent draws."""
        self._refuse_codes("draw_codes")

    def freeze(self, codes: Tensor) -> Callable[[Tensor], ConditionalValue]:
        """Contexts → the exact finite mixture over fixed codes ``(K, code_dim)``."""
        self._refuse_codes("freeze")

    def value_given_codes(self, context: Tensor, codes: Tensor) -> ConditionalValue:
        """p(x | c, ε) at contexts ``batch + (C,)`` and their codes ``batch + (code_dim,)``."""
        self._refuse_codes("value_given_codes")

    def _refuse_codes(self, call: str) -> NoReturn:
        raise IntractableError(f"{call}: density {self.name!r} has no latent codes")

    # -- as the head of a policy -------------------------------------------------------------------

    @classmethod
    def start_options(cls, log_sigma: float) -> dict[str, Any]:
        """Options that give a new density this log standard deviation, if there are any."""
        return {}

    def spread_out(self, log_sigma: float) -> None:
        """Adapt a new density, made with `start_options`, to this log standard deviation."""

    @property
    def mean_layer(self) -> nn.Module | None:
        """The linear layer of the mean, which SB3 initialises with small weights, or None."""
        return None


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
    if torch.compiler.is_compiling():  # a graph cannot depend on the numbers
        return value
    # A finite sum means finite entries. It may also overflow: only then is each entry checked.
    if not math.isfinite(value.detach().sum()) and not torch.isfinite(value).all():
        bad = int((~torch.isfinite(value)).any(-1).sum())
        raise NotFinite(f"{argument}: {bad} of {value[..., 0].numel()} rows hold NaN or infinity")
    return value
