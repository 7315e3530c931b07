"""A caller chooses the way with latent codes, in every agent whose policy is a density."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import make

from vaerl.agents import BC, PPO, SAC
from vaerl.data import Demonstrations

NET = {"net_arch": [8]}
OBSERVATIONS = np.random.default_rng(0).uniform(-1, 1, (6, 3)).astype(np.float32)


def bc(density: str, **options: Any) -> BC:
    rng = np.random.default_rng(0)
    data = Demonstrations.from_arrays(
        [rng.uniform(-1, 1, (9, 3))], [rng.uniform(-2, 2, (8, 1))], env="Pendulum-v1"
    )
    return BC(density, data=data, chunk=2, seed=0, policy_kwargs=NET, **options).learn(1)


def sac(density: str) -> SAC:
    return SAC(density, make("Pendulum-v1"), buffer_size=10, seed=0, policy_kwargs=NET)


def ppo(density: str) -> PPO:
    return PPO(density, make("Pendulum-v1"), n_steps=8, batch_size=8, seed=0, policy_kwargs=NET)


MAKERS = pytest.mark.parametrize("make_agent", [bc, sac, ppo])


def two_codes(agent: Any) -> np.ndarray:
    return agent.policy.head.density.draw_codes(2, seed=0).numpy()


@MAKERS
def test_the_same_code_gives_the_same_action_and_another_one_another(make_agent: Any) -> None:
    agent = make_agent("cvae")
    first, second = two_codes(agent)

    def act(code: np.ndarray) -> np.ndarray:
        return agent.predict(OBSERVATIONS, deterministic=True, codes=code)[0]

    np.testing.assert_array_equal(act(first), act(first))
    assert np.abs(act(first) - act(second)).max() > 1e-4
    assert agent.action_space.contains(act(first)[0])


@MAKERS
def test_each_row_takes_its_own_code(make_agent: Any) -> None:
    agent = make_agent("cvae")
    codes = agent.policy.head.density.draw_codes(len(OBSERVATIONS), seed=1).numpy()
    together = agent.predict(OBSERVATIONS, deterministic=True, codes=codes)[0]
    alone = [
        agent.predict(seen, deterministic=True, codes=code)[0]
        for seen, code in zip(OBSERVATIONS, codes, strict=True)
    ]
    # two batch sizes, the same sums of some tens of float32 numbers
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make_agent", [sac, ppo])
def test_draws_at_a_code_scatter_around_its_mean_by_the_decoder(make_agent: Any) -> None:
    agent = make_agent("cvae")
    code, seen = two_codes(agent)[0], np.repeat(OBSERVATIONS[:1], 2000, axis=0)
    drawn = agent.predict(seen, codes=code)[0]
    policy = agent.policy
    given = policy.head.density.value_given_codes(
        policy.context_at(seen[:1]), torch.as_tensor(code)[None]
    )
    exact = given.sample((2000,))[:, 0].numpy()
    exact = policy.to_actions(exact)[:, 0]
    # medians of 2000 draws within the box of ±2 each differ by at most about 0.1
    np.testing.assert_allclose(np.median(drawn, 0), np.median(exact, 0), rtol=0, atol=0.25)
    assert drawn.std() > 1e-3


def test_without_decoder_noise_cloned_chunks_are_the_mean_at_the_code() -> None:
    quiet, noisy = bc("cvae"), bc("cvae", decoder_noise=True)
    code = two_codes(quiet)[0]
    same = [quiet.predict(OBSERVATIONS, codes=code)[0] for _ in range(2)]
    np.testing.assert_array_equal(*same)
    drawn = [noisy.predict(OBSERVATIONS, codes=code)[0] for _ in range(2)]
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-3


@MAKERS
@pytest.mark.parametrize("density", ["gaussian", "mixture"])
def test_a_density_without_codes_refuses_them_in_one_line(make_agent: Any, density: str) -> None:
    with pytest.raises(ValueError, match=f"codes: .* density '{density}' has no latent codes"):
        make_agent(density).predict(OBSERVATIONS, codes=np.zeros(3))


@MAKERS
@pytest.mark.parametrize("codes", [np.zeros(1), np.zeros((5, 3)), np.full(99, np.nan)])
def test_codes_of_another_shape_are_refused_in_one_line(make_agent: Any, codes: Any) -> None:
    with pytest.raises(ValueError, match=r"codes: got shape .* expected \(\d+,\) or \(6, \d+\)"):
        make_agent("cvae").predict(OBSERVATIONS, codes=codes)


@MAKERS
@pytest.mark.parametrize("density", ["gaussian", "cvae"])
def test_events_and_actions_are_inverse_within_the_box(make_agent: Any, density: str) -> None:
    policy = make_agent(density).policy
    steps = getattr(policy, "chunk", 1)
    actions = np.random.default_rng(0).uniform(-2, 2, (5, steps, 1)).astype(np.float32)
    again = policy.to_actions(policy.to_events(actions))
    np.testing.assert_allclose(again, actions, rtol=1e-5, atol=1e-5)  # float32, two products
