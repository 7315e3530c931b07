"""One step of a rollout in numpy: action, value and log π, over the weights of the policy.

What `vaerl.policies.acting` is to predictions this is to the steps that PPO and A2C collect, with a
log-density beside each action. A policy stands still while a rollout is collected, so products of
weights are had once: each trunk layer of actor and critic is one matrix, and so is all that is
linear in their outputs. Gradients are for the update, which asks the modules themselves.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from stable_baselines3.common.torch_layers import MlpExtractor
from torch import Tensor, nn

from vaerl.densities.cvae import CVAE
from vaerl.densities.decoded import PRIOR_TERMS, knows
from vaerl.densities.gaussian import Gaussian
from vaerl.densities.normal import HALF_LOG_TWO_PI
from vaerl.densities.squash import EDGE
from vaerl.nets import smooth_range_terms
from vaerl.policies.views import Array, Views, equal_edges, is_plain, plain_policy, view

if TYPE_CHECKING:
    from vaerl.policies.actor_critic import ActorCriticPolicy

MOST_ROWS = 16
"""Environments up to which this is the faster way: it goes through them one by one."""


class FastRollout(Views):
    """Steps of a Gaussian or of a CVAE with frozen codes over plain trunks, in numpy.

    Made by `make_fast_rollout`. A snapshot: `valid` no more once a parameter or a code changes.
    """

    def __init__(self, policy: ActorCriticPolicy) -> None:
        super().__init__(policy)
        self._noise, self._squash = policy.noise, policy.squash_output
        trunks = policy.mlp_extractor
        pairs: list[Any] = [
            pair
            for pair in zip(trunks.policy_net, trunks.value_net, strict=True)
            if isinstance(pair[0], nn.Linear)
        ]
        self._layers = [_side_by_side(a, b, same_input=i == 0) for i, (a, b) in enumerate(pairs)]
        self._tanh = any(isinstance(module, nn.Tanh) for module in trunks.policy_net)
        head: Any = policy.density
        self._head = (
            _GaussianHead(head)
            if policy.codes is None
            else _FrozenHead(head, view(policy.codes.codes))
        )
        weight, bias = self._head.linear
        value = policy.value_net
        self._out = _diagonal(weight, view(value.weight)).astype(np.float32)
        self._out_bias = np.concatenate([bias, view(value.bias)]).astype(np.float32)
        self._middle, self._half = view(policy.box_middle), view(policy.box_half)
        dims = len(self._half)
        self._shift = float(np.log(self._half).sum()) + dims * HALF_LOG_TWO_PI

    def _look(self) -> list[Any]:
        versions = (t._version for own in self._tensors for t in own.values() if t is not None)
        return [*super()._look(), *versions]

    def __call__(self, obs: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """Actions ``(B, X)``, values ``(B, 1)`` and log π ``(B,)`` at flat observations ``(B, S)``.

        None where the modules have to do it: too many rows, or something that is not finite.
        """
        if obs.ndim != 2 or not 0 < len(obs) <= MOST_ROWS or not obs.is_floating_point():
            return None
        calls, generator = self._noise.calls, self._noise.generator()
        u = [0.0] * len(obs)
        if self._head.mixed:
            u = torch.rand(len(obs), generator=generator).tolist()
        noise = torch.randn((len(obs), len(self._half)), generator=generator).numpy()
        actions = np.empty((len(obs), len(self._half)), np.float32)
        numbers = np.empty((2, len(obs)), np.float32)  # values, then log π
        with np.errstate(all="ignore"):  # what is not finite is left to the modules
            for i, row in enumerate(obs.numpy().astype(np.float32, copy=False)):
                actions[i], numbers[0, i], numbers[1, i] = self._step(row, u[i], noise[i])
            if not math.isfinite(actions.sum() + numbers.sum()):
                self._noise.calls = calls
                return None
        values, log_prob = torch.from_numpy(numbers)
        return torch.from_numpy(actions), values.unsqueeze(1), log_prob

    def _step(self, h: Array, u: float, noise: Array) -> tuple[Array, Any, Any]:
        """Action, value and log π at one observation, as in `DensityDistribution`."""
        for weight, bias in self._layers:
            h = weight @ h
            h += bias
            h = np.tanh(h) if self._tanh else np.maximum(h, 0.0)
        out = self._out @ h
        out += self._out_bias
        means, log_sigmas = self._head(out)
        k = self._head.pick(u)
        x = means[k] + np.exp(log_sigmas[k]) * noise
        if self._squash:
            x = np.clip(np.tanh(x), -EDGE, EDGE)
        action = self._middle + self._half * x
        x = (action - self._middle) / self._half  # as the update will find it, rounded alike
        shift = self._shift
        if self._squash:
            x = np.arctanh(np.clip(x, -EDGE, EDGE))
            shift += 2.0 * (math.log(2.0) - x - np.logaddexp(0.0, -2.0 * x)).sum()
        z = x - means
        z *= np.exp(-log_sigmas)
        z *= z
        z *= 0.5
        z += log_sigmas
        nats = z.sum(1)
        least = nats.min()
        log_mean = math.log(np.exp(least - nats).sum() / len(nats)) - least
        return action, out[-1], log_mean - shift


class _GaussianHead:
    """N(μ(c), σ²) with one log σ a dimension, or one linear in c."""

    mixed = False

    def __init__(self, density: Gaussian) -> None:
        self._size = density.event_dim
        self._range = _range(smooth_range_terms(*density.log_sigma_bounds))
        weight, bias = _weights(density.mean_head)
        raw = density.sigma_head
        slopes = np.zeros_like(weight) if raw is None else view(raw.weight)
        self.linear = _with_range(
            np.concatenate([weight, slopes]),
            np.concatenate([bias, view(density.sigma_offset)]),
            smooth_range_terms(*density.log_sigma_bounds),
        )

    def __call__(self, out: Array) -> tuple[Array, Array]:
        """Mean and log σ of the one component, ``(1, X)``."""
        size, (half, middle) = self._size, self._range
        return out[None, :size], np.tanh(out[None, size : 2 * size]) * half + middle

    def pick(self, u: float) -> int:
        """The only one."""
        return 0


class _FrozenHead:
    """The equal mixture over a rollout's codes, worked out as in `vaerl.densities.decoded`."""

    mixed = True

    def __init__(self, density: CVAE, codes: Array) -> None:
        chain: Any = density.chain
        layer, prior = chain.generative[0], chain.prior
        net = layer.net
        terms = smooth_range_terms(*layer.log_sigma_bounds)
        self._width, self._size = net.hidden, layer.child_dim
        self._range, self._prior_range = _range(terms), _range(PRIOR_TERMS)
        self._component = (codes[:, :1] >= equal_edges(prior.components)).sum(1)
        self._noise = codes[:, 1:]
        self._edges = equal_edges(len(codes))
        self._prior_shape = (2, prior.components, prior.latent_dim)

        film, film_bias = _weights(net.film)
        enter, enter_bias = _weights(net.enter)
        up, up_bias = _weights(net.up[0])
        down, down_bias = _weights(net.down[0])
        first, rest = film[: net.hidden], film[net.hidden :]
        first_bias = film_bias[: net.hidden] + enter_bias
        head, head_bias = _with_range(*_weights(prior.head), PRIOR_TERMS)
        self.linear = (
            np.concatenate([0.5 * first, up @ first, 0.5 * rest, head]),
            np.concatenate(
                [
                    0.5 * (first_bias + down_bias),
                    up @ first_bias + up_bias,
                    0.5 * film_bias[net.hidden :],
                    head_bias,
                ]
            ),
        )
        self._both = np.concatenate([0.5 * enter, up @ enter]).T.astype(np.float32)
        self._down = (0.5 * down).T.astype(np.float32)
        leave, leave_bias = _with_range(*_weights(net.leave), terms)
        self._leave, self._leave_bias = leave.T.astype(np.float32), leave_bias.astype(np.float32)

    def __call__(self, out: Array) -> tuple[Array, Array]:
        """Means and log σ of the K components, ``(K, X)``."""
        width, (half, middle) = self._width, self._prior_range
        prior = out[4 * width : -1].reshape(self._prior_shape)
        prior[1] = np.exp(np.tanh(prior[1]) * half + middle)
        mean, sigma = prior[:, self._component]
        sigma *= self._noise
        sigma += mean
        h = sigma @ self._both
        h += out[: 2 * width]
        y = h[:, width:] * out[2 * width : 3 * width]
        y += out[3 * width : 4 * width]
        h = _silu(y) @ self._down + h[:, :width]
        out = _silu(h) @ self._leave
        out += self._leave_bias
        half, middle = self._range
        return out[:, : self._size], np.tanh(out[:, self._size :]) * half + middle

    def pick(self, u: float) -> int:
        """The component whose share of [0, 1) holds u."""
        return int(self._edges.searchsorted(np.float32(u), side="right"))


def make_fast_rollout(policy: ActorCriticPolicy) -> FastRollout | None:
    """The fast way to collect, or None where the policy is not made of parts that it knows."""
    from vaerl.policies.actor_critic import ActorCriticPolicy  # which imports this module

    trunks: Any = policy.mlp_extractor
    if type(policy) is not ActorCriticPolicy or type(trunks) is not MlpExtractor:
        return None
    shared = policy.pi_features_extractor is policy.vf_features_extractor
    if not shared or not plain_policy(policy, policy.features_extractor):
        return None
    nets = (trunks.policy_net, trunks.value_net)
    kinds = [[type(module) for module in net] for net in nets]
    if not all(map(is_plain, nets)) or kinds[0] != kinds[1] or not kinds[0]:
        return None
    density: Any = policy.density
    gaussian = (
        isinstance(density, Gaussian)
        and density.mean_kind == "linear"
        and density.variance_kind != "fixed"
    )
    known = gaussian or (isinstance(density, CVAE) and knows(density.chain))
    return FastRollout(policy) if known else None


def _weights(layer: nn.Linear) -> tuple[Array, Array]:
    """Weight and bias in double precision: what is multiplied out is rounded once."""
    return view(layer.weight).astype(np.float64), view(layer.bias).astype(np.float64)


def _side_by_side(left: nn.Linear, right: nn.Linear, same_input: bool) -> tuple[Array, Array]:
    """Two layers as one, over the same input or over their inputs one after the other."""
    weights = view(left.weight), view(right.weight)
    weight = np.vstack(weights) if same_input else _diagonal(*weights)
    return weight, np.concatenate([view(left.bias), view(right.bias)])


def _diagonal(a: Array, b: Array) -> Array:
    """The two as blocks of one matrix, zero elsewhere."""
    right, left = np.zeros((len(a), b.shape[1]), a.dtype), np.zeros((len(b), a.shape[1]), a.dtype)
    return np.block([[a, right], [left, b]])


def _with_range(
    weight: Array, bias: Array, terms: tuple[float, float, float, float]
) -> tuple[Array, Array]:
    """The lower half of the rows, a raw log σ, made the argument of the tanh in its range."""
    slope, offset, _, _ = terms
    size = len(weight) // 2
    lower, lower_bias = 0.5 * slope * weight[size:], 0.5 * (slope * bias[size:] + offset)
    return np.vstack([weight[:size], lower]), np.concatenate([bias[:size], lower_bias])


def _range(terms: tuple[float, float, float, float]) -> tuple[float, float]:
    """log σ = tanh(·) · half + middle."""
    _, _, span, low = terms
    return 0.5 * span, low + 0.5 * span


def _silu(v: Array) -> Array:
    """silu(2v) = v (1 + tanh v)."""
    gate = np.tanh(v)
    gate += 1.0
    gate *= v
    return gate
