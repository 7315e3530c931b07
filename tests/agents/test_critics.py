"""Critics: what SAC's update asks of them is what the critics themselves say."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import stable_baselines3
import torch
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from tests.agents.test_sac import FAST, parameters, train_alike
from tests.policies.common import TinyEnv
from vaerl.agents import SAC
from vaerl.policies import SACPolicy


class LearnedFeatures(BaseFeaturesExtractor):
    """One linear layer."""

    def __init__(self, space: Any) -> None:
        super().__init__(space, 4)
        self.layer = torch.nn.Linear(2, 4)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return self.layer(obs)


class NormedFeatures(LearnedFeatures):
    """One linear layer, whose outputs are normalised by batches while it trains."""

    def __init__(self, space: Any) -> None:
        super().__init__(space)
        self.norm = torch.nn.BatchNorm1d(4)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return self.norm(super().forward(obs))


class Tenfold(ContinuousCritic):
    """Ten times the value of its networks."""

    def forward(self, obs: Any, actions: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(10.0 * q for q in super().forward(obs, actions))


class TenfoldPolicy(SACPolicy):
    """A policy with a critic class of its own."""

    def make_critic(self, features_extractor: Any = None) -> ContinuousCritic:
        kwargs = self._update_features_extractor(self.critic_kwargs, features_extractor)
        return Tenfold(**kwargs).to(self.device)


class SharedPolicy(SACPolicy):
    """A policy whose critics have their first weights in common."""

    def make_critic(self, features_extractor: Any = None) -> ContinuousCritic:
        critic: Any = super().make_critic(features_extractor)
        critic.qf1[0].weight = critic.qf0[0].weight
        return critic


CASES: dict[str, tuple[type[SACPolicy], dict[str, Any]]] = {
    "tanh": (SACPolicy, {"activation_fn": torch.nn.Tanh}),
    "one": (SACPolicy, {"n_critics": 1}),
    "waves": (SACPolicy, {"critic_frequencies": 5, "critic_bandwidth": 3.0}),
    "learned features": (SACPolicy, {"features_extractor_class": LearnedFeatures}),
    "shared features": (
        SACPolicy,
        {"features_extractor_class": LearnedFeatures, "share_features_extractor": True},
    ),
    "own forward": (TenfoldPolicy, {}),
    "shared weights": (SharedPolicy, {}),
}


def trained(case: str, freeze: bool = False) -> list[Any]:
    """vaerl's SAC and SB3's after the same updates."""
    policy, kwargs = CASES[case]
    agents: list[Any] = [
        cls(policy, TinyEnv(), policy_kwargs=kwargs | {"net_arch": [8]}, **FAST)
        for cls in (SAC, stable_baselines3.SAC)
    ]
    for agent in agents:
        if freeze:
            agent.critic.qf0[0].requires_grad_(False)
            agent.critic.qf1.requires_grad_(False)
    train_alike(agents)
    return agents


def assert_alike(agents: list[Any]) -> None:
    ours, theirs = map(parameters, agents)
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("case", CASES)
def test_the_update_is_sb3s_for_any_critic(case: str) -> None:
    """And the lowest value, its slope and the values of several actions are the critic's own."""
    agents = trained(case)
    assert_alike(agents)
    agent = agents[0]
    batch, critics = agent.replay_buffer.sample(8), agent._critics
    lowest, slope = critics.lowest(batch.observations, batch.actions)
    q = torch.cat(agent.critic(batch.observations, batch.actions), dim=1).amin(1)
    assert torch.equal(lowest, q)
    other = batch.actions + 1e-3 * torch.randn_like(batch.actions)
    values = critics.values(batch.observations, torch.stack((batch.actions, other)))
    torch.testing.assert_close(values[0], lowest, rtol=1e-5, atol=1e-6)
    along = (slope * (other - batch.actions)).sum(1)
    torch.testing.assert_close(values[1] - values[0], along, rtol=0.05, atol=2e-5)


def test_what_is_frozen_stays() -> None:
    """One layer or one critic, also in the middle of training; even all of them."""
    agents = trained("tanh", freeze=True)
    assert_alike(agents)
    agents[0].critic.requires_grad_(False)
    before = parameters(agents[0])
    agents[0].train(2, 16)
    moved = {k for k, v in parameters(agents[0]).items() if not torch.equal(v, before[k])}
    assert any(k.startswith("actor.") for k in moved)
    assert not any(k.startswith("critic.") for k in moved), moved


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("critic", ["sac", "simba", "xqc", "flash"])
def test_the_target_has_the_statistics_of_its_critics(critic: str, copied: bool) -> None:
    """Of batches, in its layers and in the network before it: with their weights too it gives their
    values. A copy through pickle goes on so."""
    kwargs: dict[str, Any] = {"net_arch": {"pi": [8], "qf": [8]}}
    if critic in ("sac", "simba"):
        kwargs["features_extractor_class"] = NormedFeatures
    agent = SAC("gaussian", TinyEnv(), critic=critic, policy_kwargs=kwargs, **FAST).learn(40)
    if copied:
        agent = pickle.loads(pickle.dumps(agent))
        agent.learn(20, reset_num_timesteps=False)
    own, slow = agent.critic.state_dict(), agent.critic_target.state_dict()
    names = [name for name in own if "running_" in name]
    assert names and all(bool((own[n] != float(n.endswith("var"))).any()) for n in names)
    for name in names:
        assert torch.equal(own[name], slow[name]), name
    with torch.no_grad():
        for other, one in zip(
            agent.critic_target.parameters(), agent.critic.parameters(), strict=True
        ):
            other.copy_(one)
    batch = agent.replay_buffer.sample(8)
    agent.policy.set_training_mode(False)
    values = (net(batch.observations, batch.actions) for net in (agent.critic, agent.critic_target))
    for one, other in zip(*values, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
