"""What an update asks of critics: their regression gradient, and the slope of the lowest one."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.policies import ContinuousCritic
from torch import Tensor, nn

from vaerl.agents.sac_losses import critic_loss
from vaerl.policies.fourier import FourierCritic


class Critics:
    """N critics of any kind, through autograd.

    Args:
        critic: SB3's module, whose parameters are used and updated in place.
    """

    def __init__(self, critic: ContinuousCritic) -> None:
        self.critic = critic

    def regress(self, obs: Any, actions: Tensor, target: Tensor) -> Tensor:
        """Write the gradient of `critic_loss` into the parameters; the loss, 0-d, in Q²."""
        for parameter in self.critic.parameters():
            parameter.grad = None
        loss, _ = critic_loss(torch.stack(self.critic(obs, actions)), target)
        loss.backward()
        return loss.detach()

    def lowest(self, obs: Any, actions: Tensor) -> tuple[Tensor, Tensor]:
        """min_i Q_i(s, a) ``(B,)`` and its slope in the actions ``(B, X)``."""
        with torch.enable_grad():
            actions = actions.detach().requires_grad_()
            q = torch.stack(self.critic(obs, actions)).amin(0).squeeze(-1)
            return q.detach(), torch.autograd.grad(q.sum(), actions)[0]

    @torch.no_grad()
    def values(self, obs: Any, actions: Tensor) -> Tensor:
        """min_i Q_i(s, a) for several actions of each state, ``(n, B, X)`` to ``(n, B)``."""
        features = self.critic.extract_features(obs, self.critic.features_extractor)
        features = features.expand(*actions.shape[:-1], features.shape[-1])
        inputs = torch.cat((features, _action_inputs(self.critic, actions)), dim=-1).flatten(0, 1)
        q = torch.cat([network(inputs) for network in self.critic.q_networks], dim=1)
        return q.amin(1).reshape(actions.shape[:-1])


class MlpCritics(Critics):
    """Critics that are plain ReLU networks over fixed features, with their gradients written out.

    The same numbers as autograd's without its bookkeeping, and in `lowest` each critic is followed
    back for those rows only where it is the lowest, which saves one in N matrix products.
    """

    def __init__(self, critic: ContinuousCritic) -> None:
        super().__init__(critic)
        self.networks = [
            [layer for layer in network if isinstance(layer, nn.Linear)]
            for network in _networks(critic)
        ]

    @staticmethod
    def fits(critic: ContinuousCritic) -> bool:
        """Whether the critics are such networks, on a processor (a GPU would wait for the rows)."""

        def plain(network: list[nn.Module]) -> bool:
            kinds = [type(layer) for layer in network]
            expected = [nn.Linear if i % 2 == 0 else nn.ReLU for i in range(len(kinds))]
            biased = all(l.bias is not None for l in network if isinstance(l, nn.Linear))
            return kinds == expected and len(kinds) % 2 == 1 and biased

        learned = any(True for _ in critic.features_extractor.parameters())
        on_cpu = all(parameter.device.type == "cpu" for parameter in critic.parameters())
        return on_cpu and not learned and all(map(plain, _networks(critic)))

    @torch.no_grad()
    def regress(self, obs: Any, actions: Tensor, target: Tensor) -> Tensor:
        """As in `Critics`."""
        x = self._inputs(obs, actions)
        loss = x.new_zeros(())
        for layers in self.networks:
            q, inputs = _forward(layers, x)
            error = q - target
            loss += 0.5 * error.square().mean()
            slope = error / error.numel()
            for depth in range(len(layers) - 1, -1, -1):
                layer, before = layers[depth], inputs[depth]
                layer.weight.grad, layer.bias.grad = slope.t() @ before, slope.sum(0)
                if depth:
                    slope = _through_relu(slope @ layer.weight, before)
        return loss

    @torch.no_grad()
    def lowest(self, obs: Any, actions: Tensor) -> tuple[Tensor, Tensor]:
        """As in `Critics`."""
        x = self._inputs(obs, actions)
        passes = [_forward(layers, x) for layers in self.networks]
        lowest, which = torch.cat([q for q, _ in passes], dim=1).min(1)
        seen = _action_inputs(self.critic, actions)
        slopes = torch.empty_like(seen)
        for i, (layers, (_, inputs)) in enumerate(zip(self.networks, passes, strict=True)):
            rows = (which == i).nonzero().squeeze(1)
            slope = layers[-1].weight.expand(len(rows), -1)
            for depth in range(len(layers) - 1, 0, -1):
                weight = layers[depth - 1].weight
                weight = weight if depth > 1 else weight[:, -seen.shape[1] :]
                slope = _through_relu(slope, inputs[depth][rows]) @ weight
            slopes[rows] = slope[:, -seen.shape[1] :]
        if isinstance(self.critic, FourierCritic):
            slopes = self.critic.action_slope(seen, slopes)
        return lowest, slopes

    def _inputs(self, obs: Any, actions: Tensor) -> Tensor:
        features = self.critic.extract_features(obs, self.critic.features_extractor)
        return torch.cat((features, _action_inputs(self.critic, actions)), dim=1)


def make_critics(critic: ContinuousCritic) -> Critics:
    """The faster of the two ways that fits the critic."""
    return MlpCritics(critic) if MlpCritics.fits(critic) else Critics(critic)


def _action_inputs(critic: ContinuousCritic, actions: Tensor) -> Tensor:
    return critic.action_inputs(actions) if isinstance(critic, FourierCritic) else actions


def _networks(critic: ContinuousCritic) -> list[list[nn.Module]]:
    return [list(network.children()) for network in critic.q_networks]


def _forward(layers: list[nn.Linear], x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The output ``(B, 1)`` and the inputs of every layer."""
    inputs = [x]
    for layer in layers[:-1]:
        inputs.append(torch.relu_(torch.addmm(layer.bias, inputs[-1], layer.weight.t())))
    return torch.addmm(layers[-1].bias, inputs[-1], layers[-1].weight.t()), inputs


def _through_relu(slope: Tensor, activated: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward(slope, activated, 0)
