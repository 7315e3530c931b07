"""Policies over single actions that know what actions are worth, for learning from data.

B states, N critics, X numbers of a standardised action, F features of an observation.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from torch import Tensor, nn

from vaerl.densities.noise import Noise, exponential, uniform
from vaerl.densities.options import check_above_zero, check_choice, check_positive, check_sizes
from vaerl.nets import mlp
from vaerl.policies.chunk import ChunkPolicy

CHOICES = ("argmax", "softmax")


class CriticPolicy(ChunkPolicy):
    """A density over one action, twin critics Q(s, a) with slow copies, and a value V(s).

    Args:
        critic_arch: widths of critics and value.
        n_critics: N.
        chunk, history: 1, or a line says so.
        others: as in `ChunkPolicy`.
    """

    draws_prior: ClassVar[bool] = True
    """Whether its actions come from latents of the prior, whose temperature then counts."""

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        lr_schedule: Any = None,
        *,
        chunk: int = 1,
        history: int = 1,
        critic_arch: Sequence[int] = (256, 256),
        n_critics: int = 2,
        **options: Any,
    ) -> None:
        for name, length in (("chunk", chunk), ("history", history)):
            if length != 1:
                raise ValueError(f"{name}: got {length!r}, expected 1: critics judge single steps")
        super().__init__(
            observation_space, action_space, lr_schedule, chunk=1, history=1, **options
        )
        if self.latent_temperature != 1.0 and not self.draws_prior:
            raise ValueError(
                f"latent_temperature: got {self.latent_temperature!r}, expected 1: "
                f"{type(self).__name__} chooses among draws or latents by Q"
            )
        widths = check_sizes("critic_arch", critic_arch)
        self.options |= {"critic_arch": list(widths), "n_critics": n_critics}
        self.critics = nn.ModuleList(
            mlp(self.features_dim + self.action_dim, widths, 1)
            for _ in range(check_positive("n_critics", n_critics))
        )
        self.critic_targets = copy.deepcopy(self.critics).requires_grad_(False)
        self.value_net = mlp(self.features_dim, widths, 1)

    def critic_parameters(self) -> list[nn.Parameter]:
        """Parameters of critics and value."""
        return [*self.critics.parameters(), *self.value_net.parameters()]

    def density_parameters(self) -> list[nn.Parameter]:
        """Parameters of the density and of the network before it."""
        return [*self.trunk.parameters(), *self.density.parameters()]

    def slow_and_fast(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        """Each slow copy and the module that it follows."""
        yield self.critic_targets, self.critics

    def q(self, features: Tensor, events: Tensor, *, slow: bool = False) -> Tensor:
        """Q_i(s, a) ``(N, …)`` at features ``(…, F)`` and standardised actions ``(…, X)``."""
        inputs = torch.cat((features, events), dim=-1)
        critics = self.critic_targets if slow else self.critics
        return torch.stack([critic(inputs).squeeze(-1) for critic in critics])

    def value(self, features: Tensor) -> Tensor:
        """V(s) ``(…)``."""
        return self.value_net(features).squeeze(-1)

    def inside(self, events: Tensor) -> Tensor:
        """Standardised actions moved into the box, as they are carried out."""
        low, high = (
            (torch.as_tensor(bound.ravel()).to(events) - self.action_mean) / self.action_scale
            for bound in (self.action_space.low, self.action_space.high)
        )
        return events.clamp(low, high)

    def _worth(self, features: Tensor, events: Tensor) -> Tensor:
        """Lowest Q of each of n candidates ``(n, B, X)``: ``(n, B)``."""
        return self.q(features.expand(len(events), *features.shape), events).amin(0)


class BestOfPolicy(CriticPolicy):
    """Acts by the best of several draws by min_i Q_i (Fujimoto et al. 2019).

    Args:
        draws: n, candidates drawn from the density at each decision.
        choice: "argmax" takes the best of them, "softmax" draws one by exp(Q / temperature).
        temperature: of that draw, in units of Q.
        others: as in `CriticPolicy`. A deterministic decision takes the best of draws from a fixed
            stream.
    """

    draws_prior = False
    fixed_seed = 0

    def __init__(
        self,
        *args: Any,
        draws: int = 32,
        choice: str = "argmax",
        temperature: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self.draws = check_positive("draws", draws)
        self.choice = check_choice("choice", choice, CHOICES)
        self.temperature = check_above_zero("temperature", temperature)
        self.options |= {"draws": draws, "choice": choice, "temperature": temperature}

    @property
    def acts_by_codes(self) -> bool:
        """It draws events, not codes."""
        return False

    def _choose(
        self, inputs: Tensor, codes: Tensor | None, noise: Noise, deterministic: bool
    ) -> Tensor:
        features = self.features(inputs)
        value = self.density(self.trunk(features))
        draw = value.sample if self.decoder_noise else value.sample_mean
        events = self.inside(draw((self.draws,), noise))
        q = self._worth(features, events)
        if not deterministic and self.choice == "softmax":
            shares = torch.softmax(q.T / self.temperature, dim=-1).T
            q = shares / exponential(shares.T.shape, shares, noise).T
        return self.chunks(picked(events, q.argmax(0)))


class LatentPolicy(CriticPolicy):
    """Acts in the latent space of a density's decoder: a = E[a | z(s), s] (Zhou et al. 2020).

    A code is a uniform number, which picks a component of the prior, and standard normal noise. The
    number is drawn and the actor answers (s, number) with the noise, squashed to ±`latent_bound`,
    so that actions stay where the prior has mass and each component keeps an action of its own.

    Args:
        latent_bound: in standard deviations of the prior.
        latent_arch: widths of the actor.
        draws: numbers tried at each decision; the best of the actions by min_i Q_i is taken. A
            deterministic decision spreads them evenly.
        others: as in `CriticPolicy`.

    Raises:
        ValueError: a density without latent codes.
    """

    draws_prior = False
    frozen: Tensor

    def __init__(
        self,
        *args: Any,
        latent_bound: float = 2.0,
        latent_arch: Sequence[int] = (256, 256),
        draws: int = 16,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        size = self.density.code_dim
        if not size:
            raise ValueError(
                f"density: got {self.density.name!r}, expected one with latent codes, such as "
                "'cvae': the actor answers with a code"
            )
        if not 0.0 < latent_bound < float("inf"):
            raise ValueError(f"latent_bound: got {latent_bound!r}, expected a number above 0")
        self.latent_bound, self.draws = latent_bound, check_positive("draws", draws)
        widths = check_sizes("latent_arch", latent_arch)
        self.options |= {"latent_bound": latent_bound, "latent_arch": widths, "draws": draws}
        self.actor_net = mlp(self.features_dim + 1, widths, size - 1)
        self.actor_target = copy.deepcopy(self.actor_net).requires_grad_(False)
        self.register_buffer("frozen", torch.zeros((), dtype=torch.bool))

    def freeze(self) -> None:
        """Keep the decoder from now on; the policy then acts by its actor."""
        self.frozen.fill_(True)

    def slow_and_fast(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        yield from super().slow_and_fast()
        yield self.actor_target, self.actor_net

    def act(self, features: Tensor, u: Tensor, *, slow: bool = False) -> Tensor:
        """Standardised actions ``(…, X)`` at features ``(…, F)`` and numbers u ``(…)``."""
        u = u.unsqueeze(-1)
        net = self.actor_target if slow else self.actor_net
        noise = self.latent_bound * torch.tanh(net(torch.cat((features, u), dim=-1)))
        codes = torch.cat((u, noise), dim=-1)
        return self.inside(self.density.value_given_codes(self.trunk(features), codes).mean)

    @property
    def acts_by_codes(self) -> bool:
        """Until the decoder is frozen."""
        return not self.frozen

    def to_trace(self) -> LatentPolicy:
        """As in `DensityPolicy`; whether the decoder is frozen is then no tensor."""
        made = super().to_trace()
        frozen = bool(made.frozen)
        del made.frozen
        made.frozen = frozen  # type: ignore[assignment]
        return made

    def _choose(
        self, inputs: Tensor, codes: Tensor | None, noise: Noise, deterministic: bool
    ) -> Tensor:
        if not self.frozen:
            return super()._choose(inputs, codes, noise, deterministic)
        features = self.features(inputs)
        rows = (self.draws, features.shape[0])
        if deterministic:
            grid = (torch.arange(self.draws, device=self.device) + 0.5) / self.draws
            u = grid.unsqueeze(-1).expand(rows)
        else:
            u = uniform(rows, features, noise)
        events = self.act(features.expand(*rows, features.shape[-1]), u)
        return self.chunks(picked(events, self._worth(features, events).argmax(0)))


def picked(candidates: Tensor, index: Tensor) -> Tensor:
    """One of n candidates ``(n, B, X)`` for each row, by its index ``(B,)``: ``(B, X)``."""
    at = index[None, :, None].expand(1, *candidates.shape[1:])
    return candidates.gather(0, at).squeeze(0)
