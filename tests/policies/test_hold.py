"""Held latents and noise: drawn when their time begins, kept meanwhile, with the right law."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.evaluation import evaluate_policy

from tests.policies.common import DICT_OBS, TinyEnv, observations, sac_policy
from vaerl.agents import PPO, SAC
from vaerl.densities import make_density
from vaerl.densities.codes import draw_held_codes, held_log_prob_bounds

SMALL: dict[str, Any] = {"net_arch": [16], "num_auxiliary": 1}


def narrow_policy(**kwargs: Any) -> Any:
    """A policy whose actions are their latents, nearly without noise of their own."""
    torch.manual_seed(0)
    policy = sac_policy("cvae", **kwargs)
    with torch.no_grad():
        leave = policy.actor.density.base.chain.generative[0].net.leave
        leave.bias[2:] = -40.0
    return policy


def test_codes_are_kept_for_their_time() -> None:
    policy = narrow_policy(latent_hold=3)
    obs = np.ones((2, 3), np.float32)
    state, seen = None, []
    for _ in range(9):
        _, state = policy.predict(obs, state)
        seen.append(state[0].copy())
    for start in (0, 3, 6):
        for later in (1, 2):
            np.testing.assert_array_equal(seen[start], seen[start + later])
    assert (seen[0] != seen[3]).any(axis=1).all() and (seen[3] != seen[6]).any(axis=1).all()
    assert (seen[0][0] != seen[0][1]).any(), "each environment has codes of its own"


def test_an_episode_begins_with_new_codes_in_its_own_environment_only() -> None:
    policy = narrow_policy(latent_hold="episode")
    obs = np.ones((3, 3), np.float32)
    first, state = policy.predict(obs)
    for _ in range(5):
        held, state = policy.predict(obs, state, np.zeros(3, bool))
        np.testing.assert_allclose(held, first, atol=0.05)
    codes = state[0]
    _, state = policy.predict(obs, state, np.array([False, True, False]))
    np.testing.assert_array_equal(state[0][[0, 2]], codes[[0, 2]])
    assert (state[0][1] != codes[1]).any() and state[1].tolist() == [7, 1, 7]


def test_without_hold_the_same_state_is_acted_in_anew() -> None:
    policy = narrow_policy()
    actions = np.stack([policy.predict(np.ones((1, 3), np.float32))[0][0] for _ in range(20)])
    assert actions.std(0).max() > 0.1


def test_each_held_action_has_the_marginal_law() -> None:
    """Averaged over the codes π(a | s, ε) is π(a | s): same mean and second moment."""
    policy = sac_policy("cvae", latent_hold="episode")
    obs = np.ones((20_000, 3), np.float32)
    _, state = policy.predict(obs)
    held, _ = policy.predict(obs, state)
    with torch.no_grad():
        free = policy.actor(torch.as_tensor(obs)).numpy()
    free = policy.unscale_action(free)
    for power in (1, 2):
        a, b = held**power, free**power
        error = np.sqrt((a.var(0) + b.var(0)) / len(obs))
        assert (np.abs(a.mean(0) - b.mean(0)) < 4.5 * error).all()


@pytest.mark.parametrize("latent_dims", [(3,), (3, 2)])
def test_the_density_given_codes_is_that_of_one_frozen_code(latent_dims: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    density = make_density("cvae", context_dim=3, event_dim=2, latent_dims=latent_dims, squash=True)
    context, codes = torch.randn(4, 3), draw_held_codes(density, (4,))
    value = density.value_given_codes(context, codes)
    x = value.rsample()
    for row in range(4):
        frozen = density.freeze(codes[row : row + 1])(context[row : row + 1])
        expected = frozen.log_prob(x[row : row + 1])
        torch.testing.assert_close(value.log_prob(x)[row : row + 1], expected)


def test_the_joint_density_of_held_steps_against_quadrature() -> None:
    """One latent number, N(0, 1): log ∫ φ(ε) Π_t p(x_t | c_t, ε) dε on a grid."""
    torch.manual_seed(1)
    density = make_density(
        "cvae", context_dim=2, event_dim=1, latent_dims=(1,), prior="standard", hidden=8
    ).double()
    contexts = torch.randn(3, 6, 2, dtype=torch.float64)
    codes = draw_held_codes(density, (6,))
    with torch.no_grad():
        x = torch.stack([density.value_given_codes(c, codes).rsample() for c in contexts])
        grid = torch.linspace(-8.0, 8.0, 4001, dtype=torch.float64)
        each = torch.stack((torch.zeros_like(grid), grid), dim=1)[:, None].expand(-1, 6, -1)
        log_p = sum(
            density.value_given_codes(c.expand(4001, 6, 2), each).log_prob(e.expand(4001, 6, 1))
            for c, e in zip(contexts, x, strict=True)
        )
        prior = -0.5 * grid.square() - 0.5 * math.log(2.0 * math.pi) + math.log(16.0 / 4000)
        exact = torch.logsumexp(log_p + prior[:, None], dim=0)
        lower, upper = held_log_prob_bounds(density, contexts, x, 4000, codes)
        torch.testing.assert_close(lower, exact, atol=0.1, rtol=0.0)
        torch.testing.assert_close(upper, exact, atol=0.1, rtol=0.0)
        loose = [held_log_prob_bounds(density, contexts, x, 1, codes) for _ in range(400)]
    assert torch.stack([pair.lower for pair in loose]).mean() < exact.mean() - 0.05
    single = held_log_prob_bounds(density, contexts[:1], x[:1], 4000).lower
    marginal = density(contexts[0]).log_prob_bounds(x[0], 4000).lower
    torch.testing.assert_close(single, marginal, atol=0.1, rtol=0.0)


def test_collection_holds_through_episodes() -> None:
    """Episodes of 5 steps: codes change where one ends, and only there."""
    agent = SAC(
        "cvae",
        TinyEnv(length=5),
        learning_starts=4,
        buffer_size=100,
        batch_size=4,
        policy_kwargs={**SMALL, "latent_hold": "episode"},
    )
    codes, ends = [], []
    predict, store = agent.predict, agent._store_transition

    def watched(*args: Any, **kwargs: Any) -> Any:
        actions, state = predict(*args, **kwargs)
        assert state is not None
        codes.append(state[0][0])
        return actions, state

    def stored(buffer: Any, action: Any, obs: Any, reward: Any, dones: Any, infos: Any) -> None:
        ends.append(bool(dones[0]))
        store(buffer, action, obs, reward, dones, infos)

    agent.predict, agent._store_transition = watched, stored  # type: ignore[method-assign]
    agent.learn(40)
    assert len(codes) == 36 and sum(ends) >= 5
    for step, (before, after) in enumerate(pairwise(codes)):
        assert (before != after).any() == ends[4 + step], step


def test_evaluation_and_dict_observations() -> None:
    policy = sac_policy("cvae", DICT_OBS, latent_hold=2)
    obs = {key: np.asarray(part) for key, part in observations(DICT_OBS, 3).items()}
    actions, state = policy.predict(obs)
    assert actions.shape == (3, 2) and state is not None
    agent = SAC("cvae", "Pendulum-v1", buffer_size=10, policy_kwargs={"latent_hold": "episode"})
    mean, _ = evaluate_policy(agent, agent.get_env(), n_eval_episodes=1, deterministic=False)
    assert np.isfinite(mean)
    with_hold, none = policy.predict(obs, deterministic=True)
    assert none is None and with_hold.shape == (3, 2)


@pytest.mark.parametrize("name", ["latent_hold", "noise_hold"])
@pytest.mark.parametrize("hold", [0, -1, 1.5, True, "forever"])
def test_illegal_times_are_refused(name: str, hold: Any) -> None:
    with pytest.raises(ValueError, match=rf"{name}: got .*expected a number of steps >= 1"):
        sac_policy("cvae", **{name: hold})


def test_what_has_no_latents_holds_nothing() -> None:
    with pytest.raises(ValueError, match="latent_hold: got 2 with density 'gaussian', expected 1"):
        sac_policy("gaussian", latent_hold=2)


def test_ppo_says_that_it_holds_nothing() -> None:
    for name in ("latent_hold", "noise_hold"):
        with pytest.raises(ValueError, match=f"{name}: got 3, expected none"):
            PPO("cvae", TinyEnv(), policy_kwargs={name: 3})


def test_a_foreign_state_is_refused() -> None:
    policy = sac_policy("cvae", latent_hold=2)
    _, state = policy.predict(np.ones((2, 3), np.float32))
    with pytest.raises(ValueError, match=r"state: got arrays of shapes .*expected codes \(3, "):
        policy.predict(np.ones((3, 3), np.float32), state)
    obs = np.ones((2, 3), np.float32)
    assert state is not None
    for wrong in (5, (state[0] * np.nan, state[1]), (state[0], "ab"), state[:1]):
        with pytest.raises(ValueError, match=r"state: got .*as `predict` returned them"):
            policy.predict(obs, wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"episode_start: got shape \(3,\), expected \(2,\)"):
        policy.predict(obs, state, np.ones(3, bool))
    double = (state[0].astype(np.float64), state[1].tolist())
    assert policy.predict(obs, double)[0].shape == (2, 2)  # type: ignore[arg-type]


def test_saving_keeps_the_hold(tmp_path: Any) -> None:
    kwargs = {**SMALL, "latent_hold": "episode"}
    agent = SAC("cvae", "Pendulum-v1", buffer_size=10, policy_kwargs=kwargs)
    agent.save(tmp_path / "agent")
    assert SAC.load(tmp_path / "agent").actor.holds == ("episode", 1)


@pytest.mark.parametrize("density", ["gaussian", "mixture", "flow", "cvae"])
def test_held_noise_pushes_one_way_and_is_still_the_policy(density: str) -> None:
    """In one state a window has one action in each row; over windows the draws are π's."""
    torch.manual_seed(0)
    policy = sac_policy(density, noise_hold=3)
    obs = np.ones((2000, 3), np.float32)
    state, seen = None, []
    for _ in range(6):
        actions, state = policy.predict(obs, state)
        seen.append(actions)
    for begin, later in ((0, 1), (0, 2), (3, 4), (3, 5)):
        np.testing.assert_array_equal(seen[begin], seen[later])
    assert (seen[0] != seen[3]).any(axis=1).all(), "the next window has noise of its own"
    assert len(np.unique(seen[0][:, 0])) > 1900, "so has each row"
    with torch.no_grad():
        free = policy.unscale_action(policy.actor(torch.as_tensor(obs)).numpy())
    for power in (1, 2):
        a, b = seen[3] ** power, free**power
        error = np.sqrt((a.var(0) + b.var(0)) / len(obs))
        assert (np.abs(a.mean(0) - b.mean(0)) < 4.5 * error).all()
    fresh = [policy.predict(obs[:1])[0][0, 0] for _ in range(3)]
    assert len(set(map(float, fresh))) == 3, "without a state every call draws anew"


def test_rows_renew_their_noise_one_by_one() -> None:
    policy = sac_policy("mixture", noise_hold="episode")
    obs = np.ones((3, 3), np.float32)
    first, state = policy.predict(obs)
    second, state = policy.predict(obs, state, np.array([False, True, False]))
    np.testing.assert_array_equal(first[[0, 2]], second[[0, 2]])
    assert (first[1] != second[1]).any()
    again, _ = policy.predict(obs, state, np.zeros(3, bool))
    np.testing.assert_array_equal(second, again)


def test_held_noise_leaves_the_stream_of_updates_alone() -> None:
    """Windows begin elsewhere in the stream: drawing one takes a single number from it."""
    policy = sac_policy("gaussian", noise_hold="episode")
    before = policy.actor.noise.calls
    _, state = policy.predict(np.ones((2, 3), np.float32))
    assert policy.actor.noise.calls == before + 1
    policy.predict(np.ones((2, 3), np.float32), state, np.zeros(2, bool))
    assert policy.actor.noise.calls == before + 2


def test_noise_and_latents_are_not_both_held() -> None:
    with pytest.raises(ValueError, match="noise_hold: got 2 with latent_hold 8, expected 1"):
        sac_policy("cvae", latent_hold=8, noise_hold=2)


def test_collection_with_held_noise_changes_it_at_the_end_of_an_episode() -> None:
    agent = SAC(
        "gaussian",
        TinyEnv(length=5),
        learning_starts=0,
        gradient_steps=0,
        buffer_size=100,
        policy_kwargs={**SMALL, "noise_hold": "episode"},
    )
    windows = []
    predict = agent.predict

    def watched(*args: Any, **kwargs: Any) -> Any:
        actions, state = predict(*args, **kwargs)
        assert state is not None
        windows.append(float(state[0][0, 0]))
        return actions, state

    agent.predict = watched  # type: ignore[method-assign]
    agent.learn(20)
    assert [windows[i] for i in range(0, 20, 5)] == sorted(set(windows), key=windows.index)
    assert len(set(windows)) == 4
