"""Densities of many passes to compare with: flow matching and diffusion.

Both train a FiLM network on noisy events and draw by integrating it. Their log-density is not
computed.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from vaerl.densities import DENSITIES
from vaerl.densities.base import ConditionalDensity, ConditionalValue, Info, IntractableError
from vaerl.densities.noise import Noise, Shape, standard_normal, uniform
from vaerl.densities.options import check_at_least_zero, check_positive
from vaerl.nets import FiLMNet

FREQUENCIES = 8


class DrawnValue(ConditionalValue):
    """A law that can only be drawn from."""

    exact: ClassVar[bool] = False
    has_rsample = False

    def __init__(self, density: Rival, context: Tensor) -> None:
        super().__init__(context.shape[:-1], density.event_dim)
        self._density, self._context = density, context

    def rsample(self, sample_shape: Shape = (), generator: Noise = None) -> Tensor:
        context = self._context.expand(*sample_shape, *self._context.shape)
        noise = standard_normal((*context.shape[:-1], self.event_dim), context, generator)
        return self._density.transport(self._density.temperature * noise, context, generator)

    def log_prob(self, x: Tensor) -> Tensor:
        raise IntractableError(f"log_prob of {self._density.name} is not computed; draw samples")

    def mode(self, n: int = 32) -> Tensor:  # type: ignore[override]
        """Where the noise 0 ends up."""
        check_positive("n", n)
        noise = self._context.new_zeros((*self._context.shape[:-1], self.event_dim))
        return self._density.transport(noise, self._context, torch.Generator().manual_seed(0))


class Rival(ConditionalDensity):
    """A network over (noisy event, time, context), and the number of passes of a draw.

    Args:
        passes: calls of the network in a draw.
        temperature: standard deviation of the noise that a draw starts from.
        hidden, blocks: of the FiLM network.
    """

    name = "rival"

    def __init__(
        self,
        context_dim: int,
        event_dim: int,
        *,
        passes: int = 10,
        temperature: float = 1.0,
        hidden: int = 128,
        blocks: int = 3,
    ) -> None:
        super().__init__(context_dim, event_dim)
        self.temperature = check_at_least_zero("temperature", temperature)
        self.passes = check_positive("passes", passes)
        size = context_dim + 2 * FREQUENCIES
        self.net = FiLMNet(event_dim, size, event_dim, hidden, blocks)

    def transport(self, noise: Tensor, context: Tensor, generator: Noise) -> Tensor:
        """Events from noise ``(*batch, X)`` at contexts ``(*batch, C)``."""
        raise NotImplementedError

    def _value(self, context: Tensor) -> DrawnValue:
        return DrawnValue(self, context)

    def _net(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        """The network at times ``(*batch, 1)`` in [0, 1]."""
        phase = time * math.pi * 2.0 ** torch.arange(FREQUENCIES, device=time.device)
        features = torch.cat((context, torch.sin(phase), torch.cos(phase)), dim=-1)
        return self.net(x, self.net.condition(features))


class FlowMatching(Rival):
    """Conditional flow matching (Lipman et al. 2023) with straight paths and Euler steps.

    x_t = (1 − t) ε + t x,  loss ‖v(x_t, t, c) − (x − ε)‖²,  dx/dt = v from t = 0 to 1.
    """

    name = "flow-matching"

    def transport(self, noise: Tensor, context: Tensor, generator: Noise) -> Tensor:
        x = noise
        for step in range(self.passes):
            time = torch.full_like(x[..., :1], step / self.passes)
            x = x + self._net(x, time, context) / self.passes
        return x

    def loss(
        self,
        context: Tensor,
        x: Tensor,
        *,
        diagnostics: bool = True,
        kl_weight: float = 1.0,
        generator: Noise = None,
    ) -> tuple[Tensor, Info]:
        """Mean squared error of the velocity, ``batch``."""
        context, x = self._check_pair(context, x)
        noise = standard_normal(x.shape, x, generator)
        time = uniform(x.shape[:-1], x, generator).unsqueeze(-1)
        velocity = self._net((1.0 - time) * noise + time * x, time, context)
        loss = (velocity - (x - noise)).square().mean(-1)
        return loss, {"velocity_error": loss.detach().mean()}


class Diffusion(Rival):
    """Denoising diffusion (Ho et al. 2020), noise prediction, squared-cosine schedule (Nichol &
    Dhariwal 2021), ancestral sampling with clipped estimates as in Chi et al. (2023)."""

    name = "diffusion"
    shares: Tensor

    def __init__(
        self,
        context_dim: int,
        event_dim: int,
        *,
        passes: int = 20,
        hidden: int = 128,
        blocks: int = 3,
    ) -> None:
        super().__init__(context_dim, event_dim, passes=passes, hidden=hidden, blocks=blocks)
        time = torch.arange(passes + 1, dtype=torch.float64) / passes
        curve = torch.cos((time + 0.008) / 1.008 * math.pi / 2).square()
        step = (curve[1:] / curve[:-1]).clamp(min=1e-3)
        self.register_buffer("shares", step.cumprod(0).float())

    def transport(self, noise: Tensor, context: Tensor, generator: Noise) -> Tensor:
        x = noise
        for step in reversed(range(self.passes)):
            share = self.shares[step]
            before = self.shares[step - 1] if step else torch.ones_like(share)
            keep = share / before
            time = torch.full_like(x[..., :1], step / self.passes)
            error = self._net(x, time, context)
            clean = ((x - (1.0 - share).sqrt() * error) / share.sqrt()).clamp(-5.0, 5.0)
            x = (before.sqrt() * (1.0 - keep) * clean + keep.sqrt() * (1.0 - before) * x) / (
                1.0 - share
            )
            if step:
                spread = ((1.0 - keep) * (1.0 - before) / (1.0 - share)).sqrt()
                x = x + spread * standard_normal(x.shape, x, generator)
        return x

    def loss(
        self,
        context: Tensor,
        x: Tensor,
        *,
        diagnostics: bool = True,
        kl_weight: float = 1.0,
        generator: Noise = None,
    ) -> tuple[Tensor, Info]:
        """Mean squared error of the noise, ``batch``."""
        context, x = self._check_pair(context, x)
        noise = standard_normal(x.shape, x, generator)
        step = (uniform(x.shape[:-1], x, generator) * self.passes).long()
        share = self.shares[step].unsqueeze(-1)
        time = (step.to(x.dtype) / self.passes).unsqueeze(-1)
        error = self._net(share.sqrt() * x + (1.0 - share).sqrt() * noise, time, context)
        loss = (error - noise).square().mean(-1)
        return loss, {"noise_error": loss.detach().mean()}


def register_rivals() -> None:
    """Make the rivals known by name in this process."""
    for rival in (FlowMatching, Diffusion):
        if rival.name not in DENSITIES:
            DENSITIES.add(rival.name, rival)
