"""What an update asks of critics: their regression gradient, and the slope of the lowest one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from operator import is_
from typing import Any

import torch
from stable_baselines3.common.policies import ContinuousCritic
from torch import Tensor, nn

from vaerl.agents.compiled import Compiled
from vaerl.agents.precision import product_dtype
from vaerl.agents.sac_losses import critic_loss
from vaerl.policies.fourier import FourierCritic

Layer = tuple[Tensor, Tensor, torch.dtype]
"""Weight, bias and the type in which its products run."""

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


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
        if loss.requires_grad:  # unless all is frozen
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
        if not _as_written(self.critic):  # then only the whole knows what it does
            return torch.stack([torch.cat(self.critic(obs, a), dim=1).amin(1) for a in actions])
        features = self.critic.extract_features(obs, self.critic.features_extractor)
        features = features.expand(*actions.shape[:-1], features.shape[-1])
        inputs = torch.cat((features, _action_inputs(self.critic, actions)), dim=-1).flatten(0, 1)
        q = torch.cat([network(inputs) for network in self.critic.q_networks], dim=1)
        return q.amin(1).reshape(actions.shape[:-1])


class MlpCritics(Critics):
    """Critics that are plain ReLU networks over fixed features, with their gradients written out.

    The same numbers as autograd's without its bookkeeping, and in `lowest` each critic is followed
    back for those rows only where it is the lowest, which saves one in N matrix products.

    Args:
        critic: SB3's module.
        precision: "float32", or "bf16" for the products of wide layers (`vaerl.agents.precision`).
        compile: compile the regression, and on a GPU the slope.
    """

    def __init__(
        self, critic: ContinuousCritic, precision: str = "float32", compile: bool = False
    ) -> None:
        super().__init__(critic)
        self.networks: list[list[Layer]] = [
            [
                (layer.weight, layer.bias, product_dtype(layer, precision))
                for layer in network
                if isinstance(layer, nn.Linear)
            ]
            for network in _networks(critic)
        ]
        device = _device(critic)
        self._regression: Callable[..., tuple[Tensor, ...]] = regression
        self._slopes: Callable[..., tuple[Tensor, ...]] = slopes_by_row
        if device != "cpu":  # a GPU would wait for the rows
            self._slopes = slopes
        if compile:
            self._regression = Compiled(regression, device)
        if compile and device != "cpu":
            self._slopes = Compiled(slopes, device)

    @staticmethod
    def fits(critic: ContinuousCritic) -> bool:
        """Whether the critics are such networks, with nothing overridden, hooked or shared."""

        def plain(network: list[nn.Module]) -> bool:
            kinds = [type(layer) for layer in network]
            expected = [nn.Linear if i % 2 == 0 else nn.ReLU for i in range(len(kinds))]
            biased = all(l.bias is not None for l in network if isinstance(l, nn.Linear))
            return kinds == expected and len(kinds) % 2 == 1 and biased

        networks = _networks(critic)
        parts = [*critic.q_networks, *chain.from_iterable(networks)]
        parameters = list(chain.from_iterable(part._parameters.values() for part in parts))
        learned = any(True for _ in critic.features_extractor.parameters())
        return (
            not learned
            and _as_written(critic)
            and all(type(network) is nn.Sequential for network in critic.q_networks)
            and all(map(plain, networks))
            and not any(map(_altered, parts))
            and not any(map(_hooks_of, parameters))
            and len(set(parameters)) == len(parameters)
        )

    @torch.no_grad()
    def regress(self, obs: Any, actions: Tensor, target: Tensor) -> Tensor:
        """As in `Critics`."""
        loss, *gradients = self._regression(self.networks, self._inputs(obs, actions), target)
        found = iter(gradients)
        for layers in self.networks:
            for parameter in chain.from_iterable(layer[:2] for layer in layers):
                gradient = next(found)
                parameter.grad = gradient if parameter.requires_grad else None
        return loss

    @torch.no_grad()
    def lowest(self, obs: Any, actions: Tensor) -> tuple[Tensor, Tensor]:
        """As in `Critics`."""
        seen = _action_inputs(self.critic, actions)
        lowest, slope = self._slopes(self.networks, self._inputs(obs, actions), seen.shape[1])
        if isinstance(self.critic, FourierCritic):
            slope = self.critic.action_slope(seen, slope)
        return lowest, slope

    def _inputs(self, obs: Any, actions: Tensor) -> Tensor:
        features = self.critic.extract_features(obs, self.critic.features_extractor)
        return torch.cat((features, _action_inputs(self.critic, actions)), dim=1)


def regression(networks: list[list[Layer]], x: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """`critic_loss` at inputs ``(B, D)``, then its gradient in weight and bias of every layer."""
    loss = x.new_zeros(())
    gradients: list[Tensor] = []
    for layers in networks:
        q, inputs = _forward(layers, x)
        error = q - target
        loss = loss + 0.5 * error.square().mean()
        slope = error / error.numel()
        backward: list[Tensor] = []
        for depth in range(len(layers) - 1, -1, -1):
            (weight, bias, dtype), before = layers[depth], inputs[depth]
            bias_gradient = slope.sum(0, dtype=bias.dtype)
            slope = slope.to(dtype)
            backward += [bias_gradient, (slope.t() @ before).to(weight.dtype)]
            if depth:
                slope = _through_relu(slope @ weight.to(dtype), before)
        gradients += reversed(backward)
    return loss, *gradients


def slopes_by_row(
    networks: list[list[Layer]], x: Tensor, action_inputs: int
) -> tuple[Tensor, Tensor]:
    """min_i Q_i ``(B,)`` at inputs ``(B, D)`` and its slope in the last `action_inputs` of them.

    Each row is followed back through its lowest critic only.
    """
    passes = [_forward(layers, x) for layers in networks]
    lowest, which = torch.cat([q for q, _ in passes], dim=1).min(1)
    slope = x.new_empty(len(x), action_inputs)
    for i, (layers, (_, inputs)) in enumerate(zip(networks, passes, strict=True)):
        rows = (which == i).nonzero().squeeze(1)
        start = layers[-1][0].expand(len(rows), -1)
        slope[rows] = _backward(layers, start, [h[rows] for h in inputs], action_inputs)
    return lowest, slope


def slopes(networks: list[list[Layer]], x: Tensor, action_inputs: int) -> tuple[Tensor, Tensor]:
    """The same with every row followed back through every critic: shapes that are known."""
    passes = [_forward(layers, x) for layers in networks]
    lowest, which = torch.cat([q for q, _ in passes], dim=1).min(1)
    slope = x.new_zeros(len(x), action_inputs)
    for i, (layers, (_, inputs)) in enumerate(zip(networks, passes, strict=True)):
        start = (which == i).to(x.dtype).unsqueeze(1) * layers[-1][0]
        slope = slope + _backward(layers, start, inputs, action_inputs)
    return lowest, slope


class Watch:
    """Parts, parameters and hooks of critics and their targets, to see when they become others.

    A look costs microseconds, and what was seen is kept, so that nothing new takes its place.

    Args:
        critics: SB3's modules.
    """

    def __init__(self, *critics: ContinuousCritic) -> None:
        self._critics = critics
        tops: list[nn.Module] = [*critics, *chain.from_iterable(c.q_networks for c in critics)]
        self._modules = list(dict.fromkeys(chain.from_iterable(top.modules() for top in tops)))
        self._own: list[dict[str, Any]] = [
            own for module in self._modules for own in (module._modules, module._parameters)
        ]
        self._hooks = [vars(module)[kind] for module in self._modules for kind in HOOKS]
        self._parameters = [p for module in self._modules for p in module._parameters.values()]
        self._seen = self._look()

    @property
    def changed(self) -> bool:
        """Whether a part was replaced or overridden, or a hook came or went.

        >>> from vaerl.agents import SAC
        >>> critic = SAC("gaussian", "Pendulum-v1", buffer_size=10).critic
        >>> watch = Watch(critic)
        >>> before = watch.changed
        >>> critic.qf0[0] = nn.Linear(4, 256)
        >>> before, watch.changed
        (False, True)
        """
        now = self._look()
        return len(now) != len(self._seen) or not all(map(is_, now, self._seen))

    def _look(self) -> list[Any]:
        hooks = sum(map(len, self._hooks)) + sum(map(_hooks_of, self._parameters))
        overridden = sum("forward" in vars(module) for module in self._modules)
        return [
            hooks,
            overridden,
            *map(type, self._modules),
            *chain.from_iterable(critic.q_networks for critic in self._critics),
            *chain.from_iterable(own.values() for own in self._own),
        ]


def make_critics(
    critic: ContinuousCritic, precision: str = "float32", compile: bool = False
) -> Critics:
    """The faster of the two ways that fits the critic; on a GPU only CUDA graphs beat autograd."""
    plain = MlpCritics.fits(critic) and (compile or _device(critic) == "cpu")
    return MlpCritics(critic, precision, compile) if plain else Critics(critic)


def _as_written(critic: ContinuousCritic) -> bool:
    """Whether a call of the critic is its networks over features and `_action_inputs`."""
    return type(critic) in (ContinuousCritic, FourierCritic) and not _altered(critic)


def _altered(module: nn.Module) -> bool:
    """Whether a call of the module is other, or more, than the `forward` of its class."""
    own = vars(module)
    return "forward" in own or any(own[kind] for kind in HOOKS)


def _hooks_of(parameter: Tensor | None) -> int:
    """Hooks on the parameter's gradient."""
    if parameter is None:
        return 0
    accumulated: dict[int, Any] | None = parameter._post_accumulate_grad_hooks
    return len(parameter._backward_hooks or ()) + len(accumulated or ())


def _device(critic: ContinuousCritic) -> str:
    return next(critic.parameters()).device.type


def _action_inputs(critic: ContinuousCritic, actions: Tensor) -> Tensor:
    return critic.action_inputs(actions) if isinstance(critic, FourierCritic) else actions


def _networks(critic: ContinuousCritic) -> list[list[nn.Module]]:
    return [list(network.children()) for network in critic.q_networks]


def _forward(layers: list[Layer], x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The output ``(B, 1)`` and the inputs of every layer, in the type of its products."""
    inputs: list[Tensor] = []
    for weight, bias, dtype in layers:
        if inputs:
            x = torch.relu_(x)
        inputs.append(x.to(dtype))
        x = torch.addmm(bias.to(dtype), inputs[-1], weight.to(dtype).t())
    return x, inputs


def _backward(
    layers: list[Layer], slope: Tensor, inputs: list[Tensor], action_inputs: int
) -> Tensor:
    """The slope in the last columns of the inputs, from that in the inputs of the last layer."""
    for depth in range(len(layers) - 1, 0, -1):
        weight, _, dtype = layers[depth - 1]
        weight = weight if depth > 1 else weight[:, -action_inputs:]
        slope = _through_relu(slope.to(inputs[depth].dtype), inputs[depth])
        slope = slope.to(dtype) @ weight.to(dtype)
    return slope[:, -action_inputs:].to(layers[0][0].dtype)


def _through_relu(slope: Tensor, activated: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward(slope, activated, 0)
