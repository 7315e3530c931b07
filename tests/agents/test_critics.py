"""The written-out way through the critics is taken only where it is the critics' own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import stable_baselines3
import torch
from stable_baselines3.common.policies import ContinuousCritic
from torch import nn

from tests.agents.test_sac import FAST, parameters, train_alike
from tests.policies.common import TinyEnv
from vaerl.agents import SAC
from vaerl.agents.critics import Critics, MlpCritics
from vaerl.policies import SACPolicy

Change = Callable[[Any], Any]


class Tenfold(ContinuousCritic):
    """Ten times the value of its networks."""

    def forward(self, obs: Any, actions: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(10.0 * q for q in super().forward(obs, actions))


class TenfoldPolicy(SACPolicy):
    """A policy whose critics are of a class of their own."""

    def make_critic(self, features_extractor: Any = None) -> ContinuousCritic:
        kwargs = self._update_features_extractor(self.critic_kwargs, features_extractor)
        return Tenfold(**kwargs).to(self.device)


class SharedPolicy(SACPolicy):
    """A policy whose critics have their first weights in common."""

    def make_critic(self, features_extractor: Any = None) -> ContinuousCritic:
        critic: Any = super().make_critic(features_extractor)
        critic.qf1[0].weight = critic.qf0[0].weight
        return critic


def trained(change: Change, policy: type[SACPolicy] = SACPolicy) -> list[Any]:
    """vaerl's SAC and SB3's, both changed after they were made, then updated alike."""
    agents: list[Any] = [
        cls(policy, TinyEnv(), policy_kwargs={"net_arch": [8], "density": "gaussian"}, **FAST)
        for cls in (SAC, stable_baselines3.SAC)
    ]
    for agent in agents:
        torch.manual_seed(2)
        change(agent.critic)
    train_alike(agents)
    return agents


def assert_alike(agents: list[Any]) -> None:
    ours, theirs = map(parameters, agents)
    for name, value in ours.items():
        assert torch.allclose(value, theirs[name], rtol=1e-4, atol=1e-5), name


def double(*args: Any) -> Any:
    """A hook on a module or on a critic: twice its output."""
    out = args[-1]
    return tuple(2.0 * q for q in out) if isinstance(out, tuple) else 2.0 * out


def rebuilt_optimizer(critic: Any) -> None:
    critic.optimizer = torch.optim.Adam(critic.parameters(), lr=3e-4)


def replace_layer(critic: Any) -> None:
    critic.qf0[0] = nn.Linear(4, 8)
    rebuilt_optimizer(critic)


def replace_parameter(critic: Any) -> None:
    critic.qf1[2].bias = nn.Parameter(torch.ones(1))
    rebuilt_optimizer(critic)


def own_forward(critic: Any) -> None:
    critic.forward = lambda *args: double(ContinuousCritic.forward(critic, *args))


def own_forward_of_a_network(critic: Any) -> None:
    critic.qf0.forward = lambda x: double(nn.Sequential.forward(critic.qf0, x))


class Doubled(nn.Sequential):
    """A network whose class has a `forward` of its own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2.0 * super().forward(x)


def other_class(critic: Any) -> None:
    critic.qf0.__class__ = Doubled


def clamp(parameter: torch.Tensor) -> None:
    assert parameter.grad is not None
    parameter.grad.clamp_(-1e-4, 1e-4)


def hook_backwards(critic: Any) -> None:
    critic.qf0[2].register_full_backward_hook(lambda _, slope, __: double(slope))


OTHERS: dict[str, Change] = {
    "critic": lambda critic: critic.register_forward_hook(double),
    "network": lambda critic: critic.qf0.register_forward_hook(double),
    "layer": lambda critic: critic.qf0[0].register_forward_pre_hook(lambda _, x: double(x[0])),
    "layer backwards": hook_backwards,
    "gradient": lambda critic: critic.qf0[0].weight.register_hook(double),
    "sum": lambda critic: critic.qf0[0].weight.register_post_accumulate_grad_hook(clamp),
    "own forward": own_forward,
    "own forward of a network": own_forward_of_a_network,
    "class": other_class,
}


@pytest.mark.parametrize("change", OTHERS)
def test_what_is_overridden_or_hooked_is_followed(change: str) -> None:
    """Also where it comes after the agent was made: the update stays SB3's, through autograd."""
    agents = trained(OTHERS[change])
    assert type(agents[0]._critics) is Critics
    assert_alike(agents)


@pytest.mark.parametrize("policy", [TenfoldPolicy, SharedPolicy])
def test_critics_of_a_policys_own_are_followed(policy: type[SACPolicy]) -> None:
    """In the update, and in what candidates of the forward step are worth."""
    agents = trained(lambda critic: None, policy)
    assert type(agents[0]._critics) is Critics
    assert_alike(agents)
    batch, critics = agents[0].replay_buffer.sample(8), agents[0]._critics
    values = critics.values(batch.observations, batch.actions.expand(3, -1, -1))
    lowest, _ = critics.lowest(batch.observations, batch.actions)
    torch.testing.assert_close(values, lowest.expand(3, -1))


@pytest.mark.parametrize("change", [replace_layer, replace_parameter])
def test_what_is_replaced_is_followed(change: Change) -> None:
    """In the critics' regression and slope, and in what the targets move to."""
    agents = trained(change)
    assert type(agents[0]._critics) is MlpCritics
    assert_alike(agents)


def test_what_is_frozen_stays() -> None:
    """One layer or one critic, also in the middle of training; even all of them."""

    def freeze(critic: Any) -> None:
        critic.qf0[0].requires_grad_(False)
        critic.qf1.requires_grad_(False)

    agents = trained(freeze)
    assert type(agents[0]._critics) is MlpCritics
    assert_alike(agents)
    for kind in (MlpCritics, Critics):
        agents[0]._critics = kind(agents[0].critic)
        agents[0].critic.requires_grad_(True)
        agents[0].train(1, 16)
        agents[0].critic.requires_grad_(False)
        before = parameters(agents[0])
        agents[0].train(2, 16)
        moved = {k for k, v in parameters(agents[0]).items() if not torch.equal(v, before[k])}
        assert any(k.startswith("actor.") for k in moved)
        assert not any(k.startswith("critic.") for k in moved), moved


def test_hooks_come_and_go() -> None:
    """With them the way changes, and back; without a change nothing is made anew."""
    agent: Any = SAC("gaussian", TinyEnv(), policy_kwargs={"net_arch": [8]}, **FAST).learn(16)
    first = agent._critics
    agent.train(1, 16)
    assert agent._critics is first and type(first) is MlpCritics
    handle = agent.critic.qf0[0].register_forward_hook(double)
    agent.train(1, 16)
    assert type(agent._critics) is Critics
    handle.remove()
    agent.train(1, 16)
    assert type(agent._critics) is MlpCritics
