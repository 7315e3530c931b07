"""SAC: the same algorithm as SB3's, over any density, with everything SB3 offers around it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv
from stable_baselines3.her import HerReplayBuffer

from tests.policies.common import DENSITIES, TinyEnv
from vaerl.agents import SAC
from vaerl.agents.critics import polyak_
from vaerl.agents.sac import actor_loss
from vaerl.agents.temperature import temperature_loss
from vaerl.policies import SACPolicy
from vaerl.policies.critic_heads import Backup, critic_loss


class LearnedFeatures(BaseFeaturesExtractor):
    """One linear layer."""

    def __init__(self, space: Any) -> None:
        super().__init__(space, 4)
        self.layer = torch.nn.Linear(2, 4)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return self.layer(obs)


TINY: dict[str, Any] = {"net_arch": [16]}
FAST: dict[str, Any] = {"learning_starts": 16, "batch_size": 16, "buffer_size": 256, "seed": 0}


def train_alike(agents: list[Any], updates: int = 5) -> None:
    """Some updates of each agent on equal data with equal noise."""
    for agent in agents:
        agent.learn(16)
        agent.set_random_seed(1)
        agent.actor.noise.reseed(1)
        agent.train(updates, 16)


def parameters(agent: Any) -> dict[str, torch.Tensor]:
    """All numbers of the policy by name."""
    return {k: v.clone() for k, v in agent.policy.state_dict().items()}


def test_losses_have_the_values_of_the_formulas() -> None:
    """Two critics, two transitions, by hand."""
    one = torch.ones(1)
    next_q = torch.tensor([[[1.0], [2.0]], [[3.0], [0.0]]])
    backup = Backup(
        rewards=torch.tensor([[1.0], [1.0]]),
        dones=torch.tensor([[0.0], [1.0]]),
        discount=0.5,
        cost=torch.tensor([[2.0], [5.0]]),
    )
    target = backup.target(next_q.amin(0))
    assert torch.equal(target, torch.tensor([[1.0 + 0.5 * (1.0 - 2.0)], [1.0]]))
    loss = critic_loss(next_q, torch.tensor([[1.0], [1.0]]))
    assert loss.item() == pytest.approx(0.5 * ((0.0 + 1.0) / 2 + (4.0 + 1.0) / 2))
    actions = torch.zeros(2, 1, requires_grad=True)
    lowest, slope = next_q.amin(0).squeeze(1), torch.tensor([[3.0], [-1.0]])
    loss, info = actor_loss(lowest, slope, actions, torch.tensor([1.0, 3.0]), 2.0 * one)
    assert loss.item() == pytest.approx(((2.0 - 1.0) + (6.0 - 0.0)) / 2)
    assert info["entropy_lower"].item() == -2.0
    loss.backward()
    assert actions.grad.tolist() == [[-1.5], [0.5]]


def test_temperature_rises_where_entropy_is_short() -> None:
    """Entropy 1 below the target: the step raises log α; above it: lowers it."""
    for entropy, sign in ((-2.0, -1.0), (0.0, 1.0)):
        log_alpha = torch.zeros(1, requires_grad=True)
        loss, _ = temperature_loss(log_alpha, torch.full((4,), -entropy), -1.0)
        loss.backward()
        assert torch.sign(log_alpha.grad).item() == sign


def test_polyak_moves_by_tau() -> None:
    """τ = 0 keeps, τ = 1 copies."""
    target, source = [torch.zeros(2), torch.zeros(3)], [torch.ones(2), 2.0 * torch.ones(3)]
    polyak_(target, source, 0.25)
    assert target[1].tolist() == [0.5] * 3
    polyak_(target, source, 1.0)
    assert torch.equal(target[0], source[0])


@pytest.mark.parametrize("density", ["gaussian", "cvae"])
@pytest.mark.parametrize("ent_coef", ["auto", 0.2])
def test_the_update_is_sb3s(density: str, ent_coef: Any) -> None:
    """From the same weights, data and noise, our train and SB3's end in the same place."""
    agents = [
        cls(
            SACPolicy,
            TinyEnv(),
            policy_kwargs=TINY | {"density": density},
            ent_coef=ent_coef,
            target_update_interval=2,
            **FAST,
        )
        for cls in (SAC, stable_baselines3.SAC)
    ]
    train_alike(agents)
    ours, theirs = (parameters(agent) for agent in agents)
    for name, value in ours.items():
        assert torch.allclose(value, theirs[name], rtol=1e-4, atol=1e-5), name
    assert agents[0]._n_updates == agents[1]._n_updates
    assert all(p.requires_grad for p in agents[0].critic.parameters())
    keys = {k for k in agents[1].logger.name_to_value if k.startswith("train/")}
    for key in keys:
        assert agents[0].logger.name_to_value[key] == pytest.approx(
            agents[1].logger.name_to_value[key], rel=1e-3, abs=1e-5
        ), key


@pytest.mark.parametrize("density", ["gaussian", "cvae"])
def test_losses_are_sb3s_on_the_same_batch(density: str) -> None:
    """Critic, actor and temperature: equal to 1e-5 where weights, batch and noise are."""
    agents = [
        cls(SACPolicy, TinyEnv(), policy_kwargs=TINY | {"density": density}, **FAST)
        for cls in (SAC, stable_baselines3.SAC)
    ]
    train_alike(agents, updates=1)
    for key in ("train/critic_loss", "train/actor_loss", "train/ent_coef_loss", "train/ent_coef"):
        ours, theirs = (agent.logger.name_to_value[key] for agent in agents)
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5), key


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("dict_obs", [False, True])
def test_save_perturb_load_continue(density: str, dict_obs: bool, tmp_path) -> None:
    """Every number comes back from SB3's zip, without an env and without trust in fresh weights."""
    agent = SAC(density, TinyEnv(dict_obs), policy_kwargs=TINY, **FAST).learn(24)
    with torch.no_grad():
        for parameter in agent.policy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    agent.save(tmp_path / "agent.zip")
    loaded = SAC.load(tmp_path / "agent.zip", device="cpu")
    for name, value in parameters(agent).items():
        assert torch.equal(value, loaded.policy.state_dict()[name]), name
    for name in ("actor", "critic"):
        old, new = (getattr(a, name).optimizer.state_dict() for a in (agent, loaded))
        assert old["param_groups"] == new["param_groups"]
        for index, state in old["state"].items():
            for key, value in state.items():
                assert torch.equal(value, new["state"][index][key]), (name, index, key)
    assert torch.equal(agent.log_ent_coef, loaded.log_ent_coef)
    assert loaded.diagnostics_interval == agent.diagnostics_interval
    obs = agent.get_env().reset()
    for deterministic in (True, False):
        expected = agent.predict(obs, deterministic=deterministic)[0]
        assert np.array_equal(loaded.predict(obs, deterministic=deterministic)[0], expected)
    loaded.set_env(agent.get_env())
    loaded.learn(24, reset_num_timesteps=False)
    assert loaded.num_timesteps == 48


def test_actions_in_the_buffer_are_scaled() -> None:
    """The buffer holds actions in [−1, 1], the density's own scale; the env gets the box's."""
    agent = SAC("cvae", TinyEnv(), policy_kwargs=TINY, **FAST).learn(64)
    stored = agent.replay_buffer.actions[:64].reshape(64, 2)
    assert np.abs(stored).max() <= 1.0
    assert np.abs(agent.policy.unscale_action(stored)).max() > 1.0
    assert np.allclose(
        agent.policy.scale_action(agent.policy.unscale_action(stored)), stored, atol=1e-6
    )


def test_latents_are_logged_and_exact_densities_have_none() -> None:
    """Gap, KL, active units and ESS every diagnostics_interval updates."""
    for density, expected in (("cvae", True), ("gaussian", False)):
        agent = SAC(density, TinyEnv(), policy_kwargs=TINY, diagnostics_interval=4, **FAST)
        agent.learn(28)
        logged = agent.logger.name_to_value
        for key in ("bound_gap", "kl_layer_1", "active_units_1", "ess_ratio"):
            assert (f"latent/{key}" in logged) is expected
        assert np.isfinite(logged["train/entropy_lower"])


def test_several_envs_and_n_steps() -> None:
    """Returns over three steps and their discount, γ³ or less at an end, reach the target."""
    targets: list[torch.Tensor] = []
    agent = SAC("cvae", DummyVecEnv([TinyEnv] * 3), policy_kwargs=TINY, n_steps=3, **FAST).learn(60)
    batch = agent.replay_buffer.sample(64)
    powers = torch.tensor([agent.gamma**n for n in (1, 2, 3)])
    assert torch.isclose(batch.discounts, powers, rtol=1e-6).any(1).all()
    assert torch.isclose(batch.discounts, torch.tensor(agent.gamma**3)).float().mean() > 0.5
    agent.critic_target.requires_grad_(False)
    for parameter in agent.critic_target.parameters():
        parameter.zero_()
    agent.ent_coef_optimizer, agent.ent_coef_tensor = None, torch.zeros(1)
    for network in agent.critic_target.q_networks:
        network[-1].bias.fill_(7.0)
    agent.native = False

    def regress(step: Any) -> torch.Tensor:
        targets.append(step.backup.target(agent._critics.pair(step)[1].amin(0)))
        return torch.zeros(())

    agent._critics.regress = regress
    agent._update(batch)
    expected = batch.rewards + (1.0 - batch.dones) * batch.discounts * 7.0
    torch.testing.assert_close(targets[0], expected, rtol=1e-6, atol=1e-6)


def test_a_vector_of_processes_is_a_vector_of_copies() -> None:
    """The same transitions reach the buffer, so the same numbers are learned."""
    learned = []
    for make in (DummyVecEnv, partial(SubprocVecEnv, start_method="fork")):
        env = make([TinyEnv, TinyEnv])
        try:
            agent = SAC("cvae", env, policy_kwargs=TINY, **FAST).learn(40)
            learned.append(parameters(agent) | {"buffer": agent.replay_buffer.rewards.copy()})
        finally:
            env.close()
    assert np.array_equal(learned[0].pop("buffer"), learned[1].pop("buffer"))
    for name, value in learned[0].items():
        assert torch.equal(value, learned[1][name]), name


@pytest.mark.parametrize("agent_class", [SAC, stable_baselines3.SAC])
def test_hindsight_replay(agent_class) -> None:
    """HER relabels goals of Dict observations; no latents are stored that could go stale."""
    policy = "cvae" if agent_class is SAC else SACPolicy
    agent = agent_class(
        policy,
        BitFlippingEnv(n_bits=3, continuous=True, max_steps=3),
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 2},
        policy_kwargs=TINY,
        **FAST,
    )
    agent.learn(40)
    assert agent.policy.predict(agent.env.reset())[0].shape == (1, 3)


def test_callbacks(tmp_path) -> None:
    """EvalCallback and CheckpointCallback run, and deterministic evaluation draws no noise."""
    agent = SAC("cvae", TinyEnv(), policy_kwargs=TINY, **FAST)
    evaluate = EvalCallback(
        Monitor(TinyEnv()), eval_freq=20, n_eval_episodes=2, best_model_save_path=str(tmp_path)
    )
    agent.learn(40, callback=[evaluate, CheckpointCallback(20, str(tmp_path), "check")])
    assert (tmp_path / "best_model.zip").exists()
    loaded = SAC.load(tmp_path / "check_40_steps.zip", device="cpu")
    assert loaded.num_timesteps == 40
    twin = SAC("cvae", TinyEnv(), policy_kwargs=TINY, **FAST).learn(40)
    for name, value in parameters(twin).items():
        assert torch.equal(value, agent.policy.state_dict()[name]), name


def test_options_are_checked() -> None:
    """One line each."""
    with pytest.raises(ValueError, match="improvement: got 'forwards', expected one of reverse"):
        SAC("cvae", TinyEnv(), improvement="forwards")
    with pytest.raises(ValueError, match="diagnostics_interval: got 0"):
        SAC("cvae", TinyEnv(), diagnostics_interval=0)
    for size in (0, 16.0, "16"):
        with pytest.raises(ValueError, match=f"batch_size: got {size!r}, expected a whole number"):
            SAC("cvae", TinyEnv(), batch_size=size)
    assert SAC("cvae", TinyEnv(), batch_size=np.int64(16)).batch_size == 16
