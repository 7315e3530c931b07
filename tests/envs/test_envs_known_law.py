"""Environments whose law is known: the law, the steps and the scores are one and the same."""

from __future__ import annotations

import math

import gymnasium
import numpy as np
import pytest
import torch

import vaerl.envs
from vaerl.envs import ghost_grid
from vaerl.envs.acrobot import RawAcrobotEnv
from vaerl.envs.bimodal_wind import BimodalWindEnv
from vaerl.envs.currency_exchange import CurrencyExchangeEnv
from vaerl.envs.fork import ForkEnv
from vaerl.envs.ghost_grid import GhostGridEnv
from vaerl.envs.known_law import KnownLawEnv
from vaerl.envs.moerland_toy import MoerlandToyEnv
from vaerl.envs.noisy_pendulum import HiddenFrictionEnv, RandomPushEnv
from vaerl.envs.push_cartpole import PushCartPoleEnv
from vaerl.envs.wet_chicken import WetChickenEnv

IDS = [
    i
    for i in sorted(vaerl.envs.ENVIRONMENTS)
    if isinstance(gymnasium.make(i).unwrapped, KnownLawEnv)
]


def make(env_id) -> KnownLawEnv:
    return gymnasium.make(env_id).unwrapped


def test_all_ten_are_registered():
    assert len(IDS) == 10


# Every environment


@pytest.mark.parametrize("env_id", IDS)
def test_steps_of_the_environment_follow_the_law(env_id):
    """From the first two probe pairs: every next state is possible, their mean is the law's."""
    env, n = make(env_id), 300
    env.reset(seed=5)
    for state, action in list(env.probe_pairs().values())[:2]:
        seen = []
        for _ in range(n):
            env.reset(options={"state": state})
            seen.append(env.step(action)[0])
        law = env.transition_distribution(state, action)
        assert np.isfinite(law.log_prob(seen)).all()
        spread = np.sqrt(np.diagonal(law.covariance()))
        off = np.mean(seen, axis=0)[list(env.scored)] - law.mean()
        assert (np.abs(off) < 4.5 * spread / math.sqrt(n) + 1e-5).all(), (off, spread)


@pytest.mark.parametrize("env_id", IDS)
def test_batches_of_steps_follow_the_law_and_score_themselves(env_id):
    env, rng = make(env_id), np.random.default_rng(0)
    states, actions = env.random_pairs(3000, rng)
    steps = env.step_batch(states, actions, rng)
    law = env.transition_distribution(states, actions)
    assert steps.next_states.shape == states.shape and law.batch_shape == (3000,)
    assert np.isfinite(law.log_prob(steps.next_states)).all()
    off = steps.next_states[:, list(env.scored)] - law.mean()
    error = np.sqrt(np.diagonal(law.covariance(), axis1=1, axis2=2).mean(axis=0) / 3000)
    assert (np.abs(off.mean(axis=0)) < 4.5 * error + 1e-9).all()
    np.testing.assert_array_equal(steps.rewards, env.reward(states, actions, steps.next_states))
    ends = env.terminated(states, actions, steps.next_states)
    np.testing.assert_array_equal(steps.terminated, ends)
    assert steps.terminated.dtype == np.bool_ and steps.rewards.shape == (3000,)


@pytest.mark.parametrize("env_id", IDS)
def test_torch_scores_like_numpy(env_id):
    """Reward, end and completion of tensors equal those of arrays, in float64."""
    env, rng = make(env_id), np.random.default_rng(1)
    states, actions = env.random_pairs(500, rng)
    after = env.step_batch(states, actions, rng).next_states
    if env_id == "vaerl/BimodalWind-v0":
        after[:250, 0] = 13.0  # or hardly any reward would differ from 0
    arrays = (states, actions, after)
    tensors = tuple(torch.from_numpy(np.array(value)) for value in arrays)
    for score in (env.reward, env.terminated):
        got, expected = score(*tensors), score(*arrays)
        assert isinstance(got, torch.Tensor) and got.shape == (500,)
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6, atol=1e-12)
    scored = list(env.scored)
    got = env.complete(tensors[0], tensors[1], tensors[2][:, scored])
    expected = env.complete(states, actions, after[:, scored])
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("env_id", IDS)
def test_scored_coordinates_determine_the_next_state(env_id):
    env, rng = make(env_id), np.random.default_rng(2)
    states, actions = env.random_pairs(50, rng)
    drawn = env.transition_distribution(states, actions).sample(3, rng)
    again = env.complete(states, actions, drawn[..., list(env.scored)])
    np.testing.assert_allclose(again, drawn, rtol=0, atol=1e-12)


@pytest.mark.parametrize("env_id", IDS)
def test_one_state_meets_many_actions(env_id):
    env, rng = make(env_id), np.random.default_rng(3)
    states, actions = env.random_pairs(6, rng)
    steps = env.step_batch(states[0], actions.reshape(2, 3, *actions.shape[1:]), rng)
    assert steps.next_states.shape == (2, 3, states.shape[1])
    one = env.transition_distribution(states[0], actions[4]).mean()
    many = env.transition_distribution(states[0], actions).mean()
    np.testing.assert_allclose(one, many[4], rtol=1e-12)


@pytest.mark.parametrize("env_id", IDS)
def test_observations_serve_as_states(env_id):
    """A float32 observation is a legal state, and the next one has a finite probability."""
    env = make(env_id)
    env.action_space.seed(0)
    observation, _ = env.reset(seed=0)
    for _ in range(60):
        action = env.action_space.sample()
        law = env.transition_distribution(observation, action)
        observation, reward, terminated, truncated, _ = env.step(action)
        assert env.observation_space.contains(observation), observation
        assert type(reward) is float and type(terminated) is bool and truncated is False
        assert np.isfinite(law.log_prob(observation))
        if terminated:
            observation, _ = env.reset()


@pytest.mark.parametrize("env_id", IDS)
def test_bad_pairs_raise_one_line(env_id):
    env = make(env_id)
    states, actions = env.random_pairs(4, np.random.default_rng(0))
    bad_action = np.full_like(actions, 7) if actions.dtype == np.int64 else actions * np.nan
    for given, message in [
        ((states[:, :0], actions), r"^states: got shape \(4, 0\), expected \(…, \d\)$"),
        ((states * np.nan, actions), "^states: got NaN or infinity, expected finite numbers$"),
        (("here", actions), "^states: got str, expected an array$"),
        ((states, bad_action), "^actions: got [^\n]*, expected [^\n]*$"),
        ((states, actions[:3]), r"^actions: got shape \(3,[^\n]*expected the batch of states"),
    ]:
        with pytest.raises(ValueError, match=message):
            env.transition_distribution(*given)
        with pytest.raises(ValueError, match=message):
            env.step_batch(*given, np.random.default_rng(0))


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("action", [np.zeros(3), None, "left", np.nan, [np.nan], -1.5])
def test_a_bad_action_raises_one_line_that_names_it(env_id, action):
    env = make(env_id)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"^action[^\n]*$"):
        env.step(action)


@pytest.mark.parametrize("env_id", IDS)
def test_start_states_are_checked(env_id):
    env = make(env_id)
    size = env.observation_space.shape[0]
    for probe in env.probe_observations().values():
        started, _ = env.reset(options={"state": probe})
        np.testing.assert_array_equal(started, probe)
    for bad in (np.zeros(size + 1), np.full(size, np.nan), np.full(size, 1e3), "here"):
        with pytest.raises(ValueError, match=r"^options\['state'\][^\n]*$"):
            env.reset(options={"state": bad})
    with pytest.raises(ValueError, match="options: got 'stat', did you mean 'state'"):
        env.reset(options={"stat": np.zeros(size)})


@pytest.mark.parametrize(
    ("env", "state", "message"),
    [
        (GhostGridEnv(), [0, 0, 0, 0, 3, 3], "free cells of a running episode"),
        (GhostGridEnv(), [1, 1, 0, 0, 3, 3], "free cells"),
        (GhostGridEnv(), [0.5, 0, 3, 3, 3, 3], "free cells"),
        (ForkEnv(), [1.0], "0"),
        (MoerlandToyEnv(), [1.5], "between -1 and 1"),
        (BimodalWindEnv(), [13.0, 0.0, 0.0], "at a whole time t, 0 to 12"),
        (CurrencyExchangeEnv(), [0.5, 50.0, 1.0], "a whole step t, 0 to 19, and money m from 0.1"),
        (CurrencyExchangeEnv(), [3.0, 0.05, 1.0], "a whole step t"),
        (RandomPushEnv(), [0.5, 0.5, 0.0], r"on the circle cos² \+ sin² = 1"),
    ],
)
def test_states_that_no_step_starts_from_are_refused(env, state, message):
    action = env.probe_pairs().popitem()[1][1]
    with pytest.raises(ValueError, match=rf"^states: got \[[^\n]*, expected {message}"):
        env.transition_distribution(state, action)
    with pytest.raises(ValueError, match=rf"^options\['state'\]: got \[[^\n]* expected {message}"):
        env.reset(options={"state": state})


# The equations, written anew


def test_wet_chicken_is_what_the_current_does():
    """Fall, bank and the rest, from τ itself, one canoe at a time."""
    env, rng = WetChickenEnv(), np.random.default_rng(0)
    for state, action in env.probe_pairs().values():
        (x, y), (ax, ay) = state, action
        ends = []
        for tau in rng.uniform(-1.0, 1.0, 4000):
            v = 3.0 * x / 5.0
            aim = y + (ay - 1.0) + v + (3.5 - v) * tau
            if aim > 5.0:
                ends.append((0.0, 0.0))
            else:
                ends.append((min(max(x + ax, 0.0), 5.0), max(aim, 0.0)))
        ends, law = np.array(ends), env.transition_distribution(state, action)
        assert np.isfinite(law.log_prob(ends)).all()
        drawn = law.sample(4000, rng)
        for quantile in (0.1, 0.3, 0.5, 0.7, 0.9):
            level = np.quantile(drawn[:, 1], quantile)
            assert (ends[:, 1] <= level).mean() == pytest.approx(
                (drawn[:, 1] <= level).mean(), abs=0.05
            )
        for atom, chance in zip(law.atoms, law.probabilities, strict=True):
            if not (atom == law.atoms[0]).all() or chance == law.probabilities[0]:
                share = (ends == atom).all(axis=1).mean()
                expected = float(np.exp(law.log_prob(atom))) if chance > 0 else share
                assert share == pytest.approx(expected, abs=0.035)


def test_ghosts_redraw_illegal_moves():
    """Play by the rules with rejection; every next state's share matches its probability."""
    env, rng = GhostGridEnv(), np.random.default_rng(0)

    def move(cell, k):
        target = (cell[0] + ghost_grid.MOVES[k][0], cell[1] + ghost_grid.MOVES[k][1])
        inside = 0 <= target[0] <= 6 and 0 <= target[1] <= 6
        return target if inside and target not in ghost_grid.WALLS else None

    for state, action in env.probe_pairs().values():
        agent, *ghosts = (tuple(c) for c in state.astype(int).reshape(3, 2).tolist())
        agent = move(agent, action) or agent
        ends = []
        for _ in range(2000):
            now = list(ghosts)
            for which, chances in enumerate(((0.25,) * 4, (0.1, 0.1, 0.4, 0.4))):
                target = ghosts[which] if agent in ghosts else None
                while target is None:
                    target = move(ghosts[which], rng.choice(4, p=chances))
                now[which] = target
            ends.append((*agent, *now[0], *now[1]))
        cells, counts = np.unique(np.array(ends, dtype=float), axis=0, return_counts=True)
        chance = np.exp(env.transition_distribution(state, action).log_prob(cells))
        assert chance.sum() == pytest.approx(1.0, abs=1e-9)
        np.testing.assert_allclose(counts / 2000, chance, atol=0.045)


def test_the_ghost_grid_pays_and_ends_as_the_rules_say():
    env = GhostGridEnv()
    after = np.array(
        [[2, 2, 2, 2, 5, 5], [6, 6, 6, 6, 0, 0], [6, 6, 0, 0, 1, 0], [3, 3, 0, 0, 1, 0]]
    )
    assert env.reward(None, None, 1.0 * after).tolist() == [-1.0, -1.0, 10.0, 0.0]
    assert env.terminated(None, None, 1.0 * after).tolist() == [True, True, True, False]
    env.reset(options={"state": [6, 5, 0, 0, 0, 1]})
    _, reward, terminated, _, info = env.step(0)
    assert (reward, terminated, info["is_success"]) == (10.0, True, True)


def test_raw_acrobot_is_gymnasiums_acrobot():
    env, rng = RawAcrobotEnv(), np.random.default_rng(0)
    theirs = gymnasium.make("Acrobot-v1").unwrapped
    theirs.reset(seed=0)
    states = rng.uniform(-1, 1, (200, 4)) * [math.pi, math.pi, 12.0, 28.0]
    actions = rng.integers(3, size=200)
    ours = env.step_batch(states, actions, rng)
    for i, (state, action) in enumerate(zip(states, actions, strict=True)):
        theirs.state = state.copy()
        theirs.step(int(action))
        np.testing.assert_allclose(ours.next_states[i], theirs.state, rtol=0, atol=1e-10)
    assert (ours.rewards >= 0.0).all() and (ours.rewards <= 4.0).all()
    assert env.reward(None, None, np.array([math.pi, 0.0, 0.0, 0.0])) == pytest.approx(4.0)


@pytest.mark.parametrize("env", [RandomPushEnv(), HiddenFrictionEnv()])
def test_the_usual_component_is_gymnasiums_pendulum(env):
    """Without a push or friction, mean and reward are Pendulum-v1's, the clip included."""
    theirs, rng = gymnasium.make("Pendulum-v1").unwrapped, np.random.default_rng(0)
    theirs.reset(seed=0)
    states, actions = env.random_pairs(200, rng)
    states[:40, 2] = rng.uniform(7.0, 8.0, 40)
    law = env.transition_distribution(states, actions)
    rewards = env.reward(states, actions, states)
    for i, (state, action) in enumerate(zip(states, actions, strict=True)):
        theirs.state = np.array([math.atan2(state[1], state[0]), state[2]])
        observation, reward, *_ = theirs.step(action)
        usual = env.complete(state, action, law.means[i, 0])
        np.testing.assert_allclose(usual, observation, atol=2e-6)
        assert rewards[i] == pytest.approx(reward, rel=1e-9, abs=1e-12)


def test_pushes_and_friction_act_as_written():
    push = RandomPushEnv().transition_distribution([0.0, 1.0, 1.0], [0.5])
    calm = 1.0 + (15.0 + 1.5) * 0.05
    np.testing.assert_allclose(push.means[:, 0], [calm, calm + 0.9, calm - 0.9], rtol=1e-12)
    rub = HiddenFrictionEnv().transition_distribution([0.0, 1.0, 1.0], [0.5])
    np.testing.assert_allclose(rub.means[:, 0], [calm, calm - 0.025], rtol=1e-12)


def test_the_usual_push_free_step_is_gymnasiums_cartpole():
    env, rng = PushCartPoleEnv(), np.random.default_rng(0)
    theirs = gymnasium.make("CartPole-v1").unwrapped
    theirs.reset(seed=0)
    states, actions = env.random_pairs(200, rng)
    support = env.transition_distribution(states, actions).support
    ends = env.terminated(states, actions, support[:, 0])
    for i, (state, action) in enumerate(zip(states, actions, strict=True)):
        theirs.steps_beyond_terminated = None
        theirs.state = state
        terminated = theirs.step(int(action))[2]
        np.testing.assert_allclose(support[i, 0], theirs.state, rtol=1e-12)
        assert ends[i] == terminated
    # ±20 more force moves the cart's speed by about ∓.39 a step, the pole's the other way
    shift = support[:, 1:] - support[:, :1]
    assert (shift[:, 0, 1] > 0.3).all() and (shift[:, 1, 1] < -0.3).all()
    assert (shift[:, 0, 3] < -0.3).all()


def test_the_gust_blows_once_and_only_in_the_middle():
    env = BimodalWindEnv()
    states = np.array([[9, 0.49, 1.0], [9, 0.51, 1.0], [8, 0.0, 1.0], [10, 0.0, 1.0]], dtype=float)
    law = env.transition_distribution(states, [0.5])
    calm = 0.95 + 0.15
    np.testing.assert_allclose(law.means[0, :, 1], [calm + 2.0, calm - 2.0], rtol=1e-12)
    np.testing.assert_allclose(law.means[1:, :, 1], calm, rtol=1e-12)
    np.testing.assert_allclose(law.means[:, 0, 0], states[:, 1] + 0.1, rtol=1e-12)
    heights = np.array([0.0, 0.3, 0.7, -1.5, 1.7])
    after = np.stack([np.full(5, 13.0), heights, np.zeros(5)], -1)
    assert env.reward(None, None, after).tolist() == [1.0, 0.0, 0.15, 0.15, 0.0]
    assert not env.reward(None, None, after - [1.0, 0.0, 0.0]).any()


def test_the_toy_has_the_published_branches():
    env = MoerlandToyEnv()
    law = env.transition_distribution([[-0.5], [0.1], [0.5]], [0, 0, 0])
    expected = [{(2.5, 1.0)}, {(4.4, 0.2), (1.1, 0.8)}]
    expected.append({(5.405465, 0.3), (-0.3, 0.35), (1.25, 0.35)})
    for row, branches in enumerate(expected):
        kept = law.weights[row] > 0
        pairs = zip(law.means[row, kept, 0].round(6), law.weights[row, kept], strict=True)
        assert set(pairs) == branches


@pytest.mark.parametrize("env", [MoerlandToyEnv(), ForkEnv()])
def test_pictures_of_one_step_tasks_gather_the_outcomes_and_nothing_else(env):
    for seed in range(3):
        start, _ = env.reset(seed=seed)
        after, reward, *_ = env.step(env.action_space.n - 1)
    drawn = env._drawn()
    assert len(drawn) == 3
    last = (start[0], after[0]) if isinstance(env, MoerlandToyEnv) else (after[0], reward)
    np.testing.assert_allclose(drawn[-1], last, rtol=1e-6)
