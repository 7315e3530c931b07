"""A rollout's step in numpy gives the module's own numbers, follows its weights, steps aside."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from tests.policies.common import ac_policy
from vaerl.policies import ActorCriticPolicy

OBS = spaces.Box(-np.inf, np.inf, (5,), np.float64)
ACT = spaces.Box(np.float32([-1, 0, 2]), np.float32([1, 5, 3]))
HEADS: dict[str, dict[str, Any]] = {
    "cvae": {},
    "squashed cvae": {"squash_output": True},
    "gaussian": {},
    "squashed gaussian": {"squash_output": True},
    "predicted gaussian": {"density_kwargs": {"variance": "predicted"}},
}


def policy_of(head: str, **options: Any) -> ActorCriticPolicy:
    policy = ac_policy(head.split()[-1], OBS, ACT, **(HEADS.get(head, {}) | options))
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    policy.set_training_mode(False)
    return policy


def observations(rows: int) -> torch.Tensor:
    return torch.as_tensor(np.random.default_rng(0).normal(size=(rows, 5)))


def fast(policy: ActorCriticPolicy, obs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        return policy(obs)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("head", HEADS)
def test_a_step_is_that_of_the_modules(head: str, rows: int) -> None:
    """Actions, values and log π from the same noise, and log π as the update finds it."""
    policy, obs = policy_of(head), observations(rows)
    policy.noise.reseed(3)
    slow = [policy(obs) for _ in range(4)]  # with gradients, which only the modules give
    assert policy._fast is None
    policy.noise.reseed(3)
    for actions, values, log_prob in slow:
        found = fast(policy, obs)
        assert policy._fast is not None
        torch.testing.assert_close(found[0], actions.detach(), rtol=0.0, atol=1e-5)
        torch.testing.assert_close(found[1], values.detach(), rtol=0.0, atol=1e-5)
        again = policy.get_distribution(obs).log_prob(found[0]).detach()
        torch.testing.assert_close(found[2], again, rtol=0.0, atol=3e-5)
        if not policy.squash_output:  # near its edges log π moves with an action's last bit
            torch.testing.assert_close(found[2], log_prob.detach(), rtol=0.0, atol=3e-5)


@pytest.mark.parametrize("head", ["cvae", "gaussian"])
def test_it_follows_weights_and_codes(head: str) -> None:
    policy, obs = policy_of(head), observations(1)
    before = fast(policy, obs)[2]
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.2)
    twin = copy.deepcopy(policy)
    for _ in range(2):
        fast(policy, obs)  # the first step draws the codes
        policy.noise.reseed(1)
        found = fast(policy, obs)
        policy.noise.reseed(1)
        torch.testing.assert_close(found[0], policy(obs)[0].detach(), rtol=0.0, atol=1e-5)
        assert not torch.equal(found[2], before)
        policy.set_training_mode(True)
        policy.set_training_mode(False)
        policy.evaluate_actions(obs, found[0])[1].sum().backward()
        policy.optimizer.step()
    twin.noise.reseed(1)
    assert not torch.equal(fast(twin, obs)[2], found[2])


@pytest.mark.parametrize(
    "options",
    [
        {"density": "mixture"},
        {"density_kwargs": {"latent_dims": (4, 3)}},
        {"density_kwargs": {"prior": "gaussian"}},
        {"activation_fn": torch.nn.ELU},
        {"net_arch": {"pi": [16], "vf": [16, 16]}},
    ],
)
def test_other_policies_are_left_to_the_modules(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    policy = ActorCriticPolicy(OBS, ACT, lambda _: 1e-3, **({"net_arch": [16]} | options))
    policy.set_training_mode(False)
    obs = observations(2)
    policy.noise.reseed(2)
    found = fast(policy, obs)
    assert policy._fast is None
    policy.noise.reseed(2)
    for number, want in zip(found, policy(obs), strict=True):
        torch.testing.assert_close(number, want.detach(), rtol=0.0, atol=1e-6)


def test_what_is_not_finite_or_many_is_left_to_the_modules() -> None:
    policy = policy_of("gaussian")
    calls = policy.noise.calls
    with pytest.raises(ValueError, match="NaN or infinity"):
        fast(policy, torch.full((1, 5), torch.nan))
    assert policy.noise.calls == calls
    assert policy._step(observations(100)) is None
    handle = policy.mlp_extractor.policy_net[0].register_forward_hook(lambda *_: None)
    assert policy._step(observations(1)) is None
    handle.remove()
    assert policy._step(observations(1)) is not None
