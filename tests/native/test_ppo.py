"""The native rollout and update of PPO are those of Stable-Baselines3 over torch's density."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import set_random_seed
from torch import nn

from tests.policies.common import TinyEnv
from vaerl.agents import PPO
from vaerl.disk.errors import NotFinite
from vaerl.native.library import VARIANTS, runs_here

TORCH = "0"
"""Value of VAERL_NATIVE."""
HEAD = {"hidden": 10, "latent_dims": (3,), "prior_components": 5, "blocks": 2}
ODD = {"net_arch": {"pi": [13], "vf": [30, 7, 5]}, "activation_fn": nn.ReLU, "num_codes": 21}
FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default": ({}, {}),
    "odd sizes": (ODD | {"density_kwargs": HEAD}, {"batch_size": 37}),
    "standard prior, no block, no trunk": (
        {"net_arch": [], "density_kwargs": {"prior": "standard", "blocks": 0}},
        {"normalize_advantage": False},
    ),
    "normal prior, one code": ({"num_codes": 1, "density_kwargs": {"prior": "gaussian"}}, {}),
    "values clipped": ({}, {"clip_range_vf": 0.01, "max_grad_norm": 0.05, "vf_coef": 2.0}),
    "normalised": ({}, {"normalize_observations": True, "scale_rewards": True}),
    "stopped": ({}, {"target_kl": 0.0005, "learning_rate": 1e-3, "n_epochs": 9}),
}


def agent(form: str = "default", native: bool = True) -> PPO:
    policy_kwargs, options = FORMS[form]
    env = make_vec_env(TinyEnv, n_envs=2)
    options = {"n_steps": 50, "batch_size": 50, "n_epochs": 3, **options}
    return PPO("cvae", env, policy_kwargs=policy_kwargs, seed=0, native=native, **options)


def prepared(form: str) -> PPO:
    """An agent whose rollouts are native."""
    made = agent(form)
    made._setup_learn(100, None)
    made._prepare()
    return made


def both_trained(form: str, monkeypatch: pytest.MonkeyPatch, times: int = 2) -> list[PPO]:
    """The same agent natively and in torch, updated on the same rollouts."""
    agents = [agent(form, native) for native in (True, False)]
    for _ in range(times):  # the second time recognition networks hold gradients
        for each in agents:
            _, callback = each._setup_learn(10_000, None)
            assert each.collect_rollouts(each.env, callback, each.rollout_buffer, each.n_steps)
        agents[1].rollout_buffer = copy.deepcopy(agents[0].rollout_buffer)
        for each in agents:
            set_random_seed(1)  # the order of minibatches
            each.policy.noise.reseed(1)
            with monkeypatch.context() as patch:
                if not each.native:
                    patch.setenv("VAERL_NATIVE", TORCH)
                each.train()
    assert agents[0]._native._plan is not None, agents[0]._native._said
    return agents


def assert_alike(one: PPO, other: PPO) -> None:
    """Losses to 1e-5, gradients (by their running means) to 1e-4, steps as far as Adam allows."""
    logged, expected = one.logger.name_to_value, other.logger.name_to_value
    assert logged.keys() == expected.keys()
    for name, number in expected.items():
        if name.startswith("train/") and name != "train/latent_kl_floor":  # which is rounding
            assert logged[name] == pytest.approx(number, rel=1e-5, abs=1e-5), name
    for (name, p), q in zip(one.policy.named_parameters(), other.policy.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=3e-5, msg=name)
        if p not in one.policy.optimizer.state:
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-7, msg=name)
            continue
        state, expected_state = one.policy.optimizer.state[p], other.policy.optimizer.state[q]
        gap = (state["exp_avg"] - expected_state["exp_avg"]).norm()
        assert gap <= 1e-4 * expected_state["exp_avg"].norm() + 1e-8, name
        assert state["step"] == expected_state["step"]


@pytest.mark.parametrize("form", FORMS)
def test_the_update_is_the_one_in_torch(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the same weights, rollout and order of minibatches, with what SB3 logs of it."""
    agents = both_trained(form, monkeypatch)
    assert_alike(*agents)
    assert (agents[0]._n_updates < 2 * agents[0].n_epochs) == (form == "stopped")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_gives_the_same(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that this processor can run, with their own number of lanes."""
    if not runs_here(variant):
        pytest.skip(f"{variant} is not for this processor")
    monkeypatch.setenv("VAERL_NATIVE", variant)
    agents = both_trained("odd sizes", monkeypatch, 1)
    assert agents[0]._native._plan.variant == variant
    assert_alike(*agents)


@pytest.mark.parametrize("form", ["default", "odd sizes", "normal prior, one code"])
def test_it_draws_the_actions_of_torch(form: str) -> None:
    """With their values and log π, from the same noise, whatever the number of states."""
    made = prepared(form)
    torch.manual_seed(0)
    for count in (1, 3, 40):
        obs, found = torch.randn(count, *made.observation_space.shape), []
        made.policy.set_training_mode(False)
        for native in (True, False):
            made.policy.noise.reseed(3)
            with torch.no_grad():
                if native:
                    with made._native.acting(made.policy):
                        assert made.policy._fast.native is not None
                        found.append(made.policy(obs))
                else:
                    found.append(made.policy(obs))
            assert made.policy.noise.calls == 1
        for ours, theirs in zip(*found, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"native": False}, "native=False"),
        ({"ent_coef": 0.01}, "an entropy bonus"),
        ({"policy_kwargs": {"squash_output": True}}, "squashed actions"),
        ({"policy_kwargs": {"optimizer_class": torch.optim.RMSprop}}, "optimizer RMSprop"),
        ({"policy_kwargs": {"activation_fn": nn.ELU}}, "activations other than Tanh or ReLU"),
        ({"policy_kwargs": {"density_kwargs": {"latent_dims": (2, 2)}}}, "with these options"),
    ],
)
def test_what_it_does_not_cover_goes_through_torch(options: dict[str, Any], reason: str) -> None:
    made = PPO("cvae", TinyEnv(), n_steps=8, batch_size=8, n_epochs=1, **options).learn(8)
    assert reason in made._native._said and "torch" in made._native._said


CHANGES: dict[str, Callable[[Any], Any]] = {
    "an option of Adam": lambda policy: policy.optimizer.param_groups[0].update(weight_decay=0.5),
    "an activation": lambda policy: policy.mlp_extractor.policy_net.__setitem__(1, nn.ELU()),
    "a hook after steps": lambda policy: policy.optimizer.register_step_post_hook(print),
    "a hook of gradients": lambda policy: policy.value_net.register_full_backward_pre_hook(print),
    "a hook of a parameter": lambda policy: policy.value_net.bias.register_hook(print),
    "a hook behind a gradient": lambda policy: (
        policy.value_net.bias.register_post_accumulate_grad_hook(print)
    ),
    "a step of one's own": lambda policy: setattr(policy.optimizer, "step", print),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_on_the_way_is_noticed(change: str) -> None:
    made = prepared("default")
    assert made._native._plan is not None
    CHANGES[change](made.policy)
    made._prepare()
    assert made._native._plan is None
    bias = made.policy.value_net.bias  # has its own memory again
    assert bias.untyped_storage().nbytes() == 4 * bias.numel()


def test_replaced_moments_are_those_of_the_next_step() -> None:
    made = prepared("default")
    state = made.policy.optimizer.state[made.policy.value_net.bias]
    state["exp_avg"] = torch.full_like(state["exp_avg"], 7.0)
    made._prepare()
    assert made._native._plan is not None
    assert 7.0 in made._native._plan.flat.mean


def test_all_numbers_have_their_own_memory_after_a_training() -> None:
    """So that copies, pickles and other formats hold nothing else; and the training goes on."""
    made = agent().learn(100)
    for parameter in made.policy.parameters():
        assert parameter.untyped_storage().nbytes() == 4 * parameter.numel()
    for each in (made, copy.deepcopy(made)):
        each.learn(100, reset_num_timesteps=False)
        assert each.num_timesteps == 200 and "native" in each._native._said


def test_the_default_type_of_torch_does_not_matter() -> None:
    found, before = [], torch.get_default_dtype()
    for kind in (torch.float32, torch.float64):
        each = prepared("default")
        torch.set_default_dtype(kind)
        try:
            with each._native.acting(each.policy), torch.no_grad():
                actions, _, _ = each.policy(torch.ones(2, 3, dtype=torch.float32))
        finally:
            torch.set_default_dtype(before)
        found.append(actions)
    assert found[1].dtype == torch.float32 and torch.equal(*found)


def test_a_hook_on_the_policy_is_called() -> None:
    made, seen = agent(), []
    made.learn(100)
    made.policy.value_net.register_forward_hook(lambda *_: seen.append(1))
    made.learn(100, reset_num_timesteps=False)
    assert "hooks" in made._native._said and seen


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    made = agent().learn(100)
    with torch.no_grad():
        made.policy.value_net.bias.fill_(torch.nan)
    with pytest.raises(NotFinite, match=r"value_net\.bias is not finite"):
        made.learn(100)


def test_a_copy_of_a_policy_in_a_rollout_has_its_own_numbers() -> None:
    made = prepared("default")
    with made._native.acting(made.policy):
        twin = copy.deepcopy(made.policy)
    assert twin._fast.native is None
    assert twin.value_net.weight.data_ptr() != made.policy.value_net.weight.data_ptr()
