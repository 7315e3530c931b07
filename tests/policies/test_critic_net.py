"""The critic made of parts: each named one computes what its authors publish."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
import pytest
import sb3_contrib
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from tests.policies.common import DENSITIES, TinyEnv
from vaerl.agents import SAC
from vaerl.agents.critics import Critics, Transition
from vaerl.policies import SACPolicy
from vaerl.policies.critic_heads import Backup, CategoricalHead, ScalarHead
from vaerl.policies.critic_layers import RENORM_AFTER, BatchNorms, BatchRenorms, Linears
from vaerl.policies.critic_net import CRITICS

TINY: dict[str, Any] = {"net_arch": {"pi": [8], "qf": [8, 8]}}
FAST: dict[str, Any] = {"learning_starts": 16, "batch_size": 16, "buffer_size": 256, "seed": 0}
GAMMA, ALPHA, ROWS = 0.9, 0.3, 32
EXACT = {"rtol": 1e-9, "atol": 1e-10}
DEEP = [name for name in CRITICS if name != "sac"]


def policy(critic: str, **options: Any) -> SACPolicy:
    """A small policy with a critic, whose normalisations have some history."""
    env = TinyEnv()
    made = SACPolicy(
        env.observation_space,
        env.action_space,
        lambda _: 1e-3,
        density="gaussian",
        critic=critic,
        **(TINY | options),
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in made.critic.state_dict().items():
            if name.endswith(("scale", "shift", "bias")):
                tensor.add_(0.2 * torch.randn(tensor.shape, generator=generator))
            if name.endswith(("running_mean", "running_var")):
                tensor.add_(0.3 * torch.rand(tensor.shape, generator=generator))
        made.critic_target.load_state_dict(made.critic.state_dict())
    return made


def transition() -> Transition:
    """A batch of made-up steps."""
    generator = torch.Generator().manual_seed(0)

    def draw(size: int) -> Tensor:
        return 2.0 * torch.rand(ROWS, size, generator=generator) - 1.0

    dones = (torch.arange(ROWS) % 3 == 0).float().unsqueeze(1)
    backup = Backup(3.0 * draw(1), dones, GAMMA, ALPHA * draw(1))
    return Transition(draw(2), draw(2), draw(2), draw(2), backup)


def in_float64(step: Transition) -> Transition:
    """The same steps with more digits."""
    parts = (part.double() if isinstance(part, Tensor) else part for part in step.backup)
    return Transition(*(part.double() for part in step[:4]), Backup(*parts))


def joined(step: Transition) -> Tensor:
    """(s, a) above (s', a')."""
    first = torch.cat((step.obs, step.actions), dim=1)
    return torch.cat((first, torch.cat((step.next_obs, step.next_actions), dim=1)))


def contrib_critic(ours: Any) -> Any:
    """sb3-contrib's critics with the weights and statistics of ours."""
    env = TinyEnv()
    theirs = sb3_contrib.crossq.policies.CrossQPolicy(
        env.observation_space, env.action_space, lambda _: 1e-3, net_arch=TINY["net_arch"]
    ).critic
    layers = [m for m in ours.net if isinstance(m, Linears | BatchNorms)]
    with torch.no_grad():
        for i, network in enumerate(theirs.q_networks):
            modules = [m for m in network if not isinstance(m, nn.ReLU)]
            for own, other in zip(layers, modules, strict=True):
                if isinstance(own, Linears):
                    other.weight.copy_(own.weight[i])
                    other.bias.copy_(own.bias[i, 0])
                else:
                    other.scale.copy_(own.scale[i, 0])
                    other.bias.copy_(own.shift[i, 0])
                    other.ra_mean.copy_(own.running_mean[i, 0])
                    other.ra_var.copy_(own.running_var[i, 0])
                    other.steps.copy_(own.steps)
    return theirs


@pytest.mark.parametrize("head", [ScalarHead(), CategoricalHead(11, 5.0)])
def test_weights_are_factors_on_the_losses_of_transitions(head: Any) -> None:
    """With weight 0 on all but the first rows, the loss is theirs, over the number of all."""
    backup, few = transition().backup, ROWS // 4
    now, after = torch.randn(2, 2, ROWS, head.size, generator=torch.Generator().manual_seed(1))
    weights = 3.0 * (torch.arange(ROWS) < few).float().unsqueeze(1)
    found = head.loss(now, after, backup._replace(weights=weights))
    rewards, dones, discount, cost, _ = backup
    first = Backup(rewards[:few], dones[:few], discount, cost[:few])
    own = head.loss(now[:, :few], after[:, :few], first)
    torch.testing.assert_close(found, 3.0 * own * few / ROWS, rtol=1e-5, atol=1e-6)


def test_a_dead_unit_leaves_gradients_finite() -> None:
    """A feature that is the same in all rows, where √variance has no slope."""
    layer = BatchRenorms(2, 3)
    layer.steps.fill_(RENORM_AFTER + 1)
    x = torch.randn(2, ROWS, 3, generator=torch.Generator().manual_seed(0))
    x[..., 0] = 0.0
    x.requires_grad_()
    (layer(x, True) * torch.linspace(0.0, 1.0, x.numel()).view_as(x)).sum().backward()
    assert x.grad is not None and bool(x.grad.isfinite().all())


@pytest.mark.parametrize("batches", [0, RENORM_AFTER + 1])
def test_crossq_is_sb3_contribs(batches: int) -> None:
    """Loss, gradients, statistics and values, before and after the warm-up, in float64,
    where no rounding hides a difference: dead units are among them."""
    made, step = policy("crossq"), in_float64(transition())
    ours: Any = made.critic
    for layer in ours.net:
        if isinstance(layer, BatchNorms):
            layer.steps.fill_(batches)
    theirs = contrib_critic(ours).double()
    ours.double()
    loss = Critics(ours, made.critic_target).regress(step)

    theirs.set_bn_training_mode(True)
    obs, actions = (
        torch.cat((step.obs, step.next_obs)),
        torch.cat((step.actions, step.next_actions)),
    )
    both = torch.cat(theirs(obs, actions), dim=1)
    now, after = both.split(ROWS)
    target = step.backup.target(after.detach().amin(1, keepdim=True))
    expected = 0.5 * sum(F.mse_loss(q.unsqueeze(1), target) for q in now.T)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), **EXACT)

    theirs.set_bn_training_mode(False)
    layers = [m for m in ours.net if isinstance(m, Linears | BatchNorms)]
    for i, network in enumerate(theirs.q_networks):
        modules = [m for m in network if not isinstance(m, nn.ReLU)]
        for own, other in zip(layers, modules, strict=True):
            pairs = (
                [(own.weight, other.weight), (own.bias, other.bias)]
                if isinstance(own, Linears)
                else [(own.scale, other.scale), (own.shift, other.bias)]
            )
            for mine, its in pairs:
                torch.testing.assert_close(mine.grad[i].reshape(its.shape), its.grad, **EXACT)
            if isinstance(own, BatchNorms):
                for mine, its in (
                    (own.running_mean, other.ra_mean),
                    (own.running_var, other.ra_var),
                ):
                    torch.testing.assert_close(mine[i, 0], its, **EXACT)
    values = torch.stack(theirs(step.obs, step.actions))
    found = torch.stack(ours(step.obs, step.actions))
    torch.testing.assert_close(found, values, **EXACT)


def by_batch(x: Tensor, norm: BatchNorms, i: int) -> Tensor:
    """Batch normalisation by hand."""
    centred = x - x.mean(0)
    return centred / (centred.square().mean(0) + 1e-3).sqrt() * norm.scale[i, 0] + norm.shift[i, 0]


def by_layer(x: Tensor, norm: Any, i: int) -> Tensor:
    """Layer normalisation by hand."""
    centred = x - x.mean(1, keepdim=True)
    deviation = (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
    return centred / deviation * norm.scale[i, 0] + norm.shift[i, 0]


def linear(x: Tensor, layer: Linears, i: int) -> Tensor:
    """x Wᵀ + b of critic i."""
    return x @ layer.weight[i].T + (0.0 if layer.bias is None else layer.bias[i])


def xqc(x: Tensor, net: Any, i: int) -> Tensor:
    """BN, then Dense without bias → BN → ReLU, then the head (Palenicek et al. 2025)."""
    x = by_batch(x, net[0], i)
    for dense, norm in ((net[1], net[2]), (net[4], net[5])):
        assert dense.bias is None
        x = by_batch(linear(x, dense, i), norm, i).relu()
    return linear(x, net[7], i)


def flash(x: Tensor, net: Any, i: int) -> Tensor:
    """BN → Dense → blocks x + ReLU(BN(D(ReLU(BN(D x))))) → RMSNorm → the head."""
    x = linear(by_batch(x, net[0], i), net[1], i)
    for block in net[2:4]:
        hidden = by_batch(linear(x, block[0], i), block[1], i).relu()
        assert hidden.shape[1] == 4 * x.shape[1]
        x = x + by_batch(linear(hidden, block[3], i), block[4], i).relu()
    x = x / (x.square().mean(1, keepdim=True) + 1e-6).sqrt() * net[4].scale[i, 0]
    return linear(x, net[5], i)


def simba(x: Tensor, net: Any, i: int) -> Tensor:
    """Dense → blocks x + D(ReLU(D(LN x))) → LN → the head (Lee et al. 2024)."""
    x = linear(x, net[0], i)
    for block in net[1:3]:
        hidden = linear(by_layer(x, block[0], i), block[1], i).relu()
        assert hidden.shape[1] == 4 * x.shape[1]
        x = x + linear(hidden, block[3], i)
    return linear(by_layer(x, net[3], i), net[4], i)


@pytest.mark.parametrize("network", [xqc, flash, simba])
def test_the_network_is_the_published_one(network: Any) -> None:
    """Outputs at (s, a) from the pass over both halves, and those of the target at (s', a')."""
    made, step = policy(network.__name__), transition()
    for parameter in made.critic_target.parameters():
        parameter.data.mul_(1.1)
    now, after = made.critic.pair(made.critic_target, *step[:4])
    for i in range(2):
        both = network(joined(step), made.critic.net, i)
        torch.testing.assert_close(now[i], both[:ROWS], rtol=1e-4, atol=1e-5)
        both = network(joined(step), made.critic_target.net, i)
        torch.testing.assert_close(after[i], both[ROWS:], rtol=1e-4, atol=1e-5)
    assert now.requires_grad and not after.requires_grad


def test_the_categorical_loss_is_the_published_one() -> None:
    """Mass by mass: the critic with the lower mean moves, clips and spreads; cross-entropy."""
    head, step = CategoricalHead(11, 5.0), transition()
    generator = torch.Generator().manual_seed(2)
    now, after = torch.randn(2, 2, ROWS, 11, generator=generator)
    rewards, dones, _, costs, _ = step.backup
    loss = 0.0
    for row in range(ROWS):
        each = [torch.softmax(after[i, row], dim=0) for i in range(2)]
        shares = min(each, key=lambda p: float((p * head.atoms).sum()))
        target = torch.zeros(11)
        for share, atom in zip(shares, head.atoms, strict=True):
            r, d, cost = (float(part[row]) for part in (rewards, dones, costs))
            moved = min(5.0, max(-5.0, r + (1.0 - d) * GAMMA * (float(atom) - cost)))
            target += share * (1.0 - (head.atoms - moved).abs()).clamp_min(0.0)
        for i in range(2):
            loss -= (target * torch.log_softmax(now[i, row], dim=0)).sum() / ROWS
    torch.testing.assert_close(head.loss(now, after, step.backup), loss, rtol=1e-5, atol=1e-5)
    at_the_end = Backup(torch.full((1, 1), 9.0), torch.ones(1, 1), GAMMA, torch.zeros(1, 1))
    assert head.target(torch.zeros(2, 1, 11), at_the_end)[0, 10].item() == pytest.approx(1.0)


@pytest.mark.parametrize("critic", ["xqc", "flash"])
def test_weights_stay_on_their_spheres(critic: str) -> None:
    """Every unit's weights have length 1, from the start and after each step."""
    agent = SAC("gaussian", TinyEnv(), critic=critic, policy_kwargs=TINY, **FAST)
    for steps in (1, 40):
        agent.learn(steps)
        for layer in agent.critic.net.modules():
            if isinstance(layer, Linears):
                lengths = layer.weight.norm(dim=2)
                torch.testing.assert_close(lengths, torch.ones_like(lengths), rtol=1e-5, atol=1e-6)
            elif hasattr(layer, "scale") and critic == "flash":
                parts = torch.cat(list(layer.parameters()), dim=2)
                length = parts.norm(dim=2)
                expected = torch.full_like(length, math.sqrt(layer.scale.shape[2]))
                torch.testing.assert_close(length, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("critic", DEEP)
def test_the_actor_sees_running_statistics(critic: str) -> None:
    """A value depends on its own row alone in every mode, and looking changes nothing."""
    made, step = policy(critic), transition()
    before = {k: v.clone() for k, v in made.critic.state_dict().items()}
    made.set_training_mode(True)
    whole, _ = Critics(made.critic, made.critic_target).lowest(step.obs, step.actions)
    made.set_training_mode(False)
    part, _ = Critics(made.critic, made.critic_target).lowest(step.obs[:3], step.actions[:3])
    torch.testing.assert_close(whole[:3], part, rtol=1e-5, atol=1e-6)
    for name, value in made.critic.state_dict().items():
        assert torch.equal(value, before[name]), name


class Picture(gymnasium.Env):
    """Noise to look at."""

    observation_space = spaces.Box(0, 255, (3, 36, 36), np.uint8)
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return self.np_random.integers(0, 256, (3, 36, 36), np.uint8), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        return self.reset()[0], -float(np.square(action).sum()), False, False, {}


@pytest.mark.parametrize("critic", DEEP)
@pytest.mark.parametrize("kind", ["Dict", "image", "shared"])
def test_observations_of_every_kind(critic: str, kind: str, tmp_path: Any) -> None:
    """Learned from, saved and loaded, with the statistics."""
    env = Picture() if kind == "image" else TinyEnv(dict_obs=kind == "Dict")
    kwargs = TINY | {"share_features_extractor": kind == "shared"}
    agent = SAC("cvae", env, critic=critic, policy_kwargs=kwargs, **FAST).learn(19)
    agent.save(tmp_path / "agent.zip")
    loaded = SAC.load(tmp_path / "agent.zip", device="cpu")
    for name, value in agent.policy.state_dict().items():
        assert torch.equal(value, loaded.policy.state_dict()[name]), name
    assert (loaded.critic_target is loaded.critic) == (not CRITICS[critic].target)
    assert np.isfinite(agent.logger.name_to_value["train/critic_loss"])


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("critic", ["crossq", "xqc"])
def test_every_density(density: str, critic: str) -> None:
    """With waves of the action, one critic or three, and both improvement steps."""
    kwargs = TINY | {"critic_frequencies": 3, "n_critics": 1 if critic == "xqc" else 3}
    agent = SAC(
        density, TinyEnv(), critic=critic, policy_kwargs=kwargs, improvement="both",
        improvement_kwargs={"reverse_start": 0.0, "candidates": 4}, **FAST,
    ).learn(20)  # fmt: skip
    assert agent.critic.net[0].scale.shape[2] == 2 + 2 + 2 * 3
    assert all(torch.isfinite(p).all() for p in agent.policy.parameters())


@pytest.mark.parametrize("critic", DEEP)
def test_a_known_function_is_learned_as_the_actor_sees_it(critic: str) -> None:
    """r = 1.5 − 2 (a₁ − s₁ s₂)²: values by running statistics, and slopes."""

    def known(obs: Tensor, actions: Tensor) -> Tensor:
        return 1.5 - 2.0 * (actions[:, :1] - obs[:, :1] * obs[:, 1:]).square()

    torch.manual_seed(0)
    made = policy(critic, net_arch={"pi": [8], "qf": [32, 32]})
    critics = Critics(made.critic, made.critic_target)
    generator = torch.Generator().manual_seed(1)

    def draw() -> Tensor:
        return 2.0 * torch.rand(64, 2, generator=generator) - 1.0

    one = torch.ones(64, 1)
    for group in made.critic.optimizer.param_groups:
        group["lr"] = 3e-3
    for _ in range(400):
        obs, actions = draw(), draw()
        backup = Backup(known(obs, actions), one, GAMMA, 0.0 * one)
        critics.regress(Transition(obs, actions, draw(), draw(), backup))
        made.critic.optimizer.step()
        critics.settle()
    obs, actions = draw(), draw().requires_grad_()
    truth = known(obs, actions)
    (expected,) = torch.autograd.grad(truth.sum(), actions)
    found, slope = critics.lowest(obs, actions)
    error = (found - truth.detach()[:, 0]).square().mean() / truth.var()
    assert error < 0.3, error
    assert torch.corrcoef(torch.stack((slope[:, 0], expected[:, 0])))[0, 1] > 0.7
