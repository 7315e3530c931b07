"""A code that is held through an episode: its bound against a closed form, and what it learns."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
)

from vaerl.dynamics import (
    DynamicsModel,
    FitOptions,
    Transitions,
    fit,
    log_density,
    replay_transitions,
    score,
    spread,
)
from vaerl.dynamics.batched import batch_members
from vaerl.dynamics.episodes import EpisodeCode, stretches_from
from vaerl.dynamics.fitting import _split_episodes
from vaerl.nets import smooth_range

NOISE = 0.2


def drifts(episodes: int, steps: int, seed: int) -> Transitions:
    """s' = s + c + N(0, .2²), c = ±1 drawn once an episode; s is drawn anew, and tells nothing."""
    generator = torch.Generator().manual_seed(seed)
    drift = torch.randint(2, (episodes, 1), generator=generator) * 2.0 - 1.0
    moves = drift + NOISE * torch.randn(episodes, steps, generator=generator)
    states = 3.0 * torch.randn(episodes, steps, generator=generator)
    after = states + moves
    numbers = torch.arange(episodes).repeat_interleave(steps)
    columns = (states.reshape(-1, 1), torch.zeros(episodes * steps, 1), after.reshape(-1, 1))
    return Transitions(*columns, episodes=numbers)


def test_the_priors_of_members_are_mixtures_and_do_not_mix() -> None:
    """Side by side every member has its own density and places codes as it does alone."""
    torch.manual_seed(0)
    members = [EpisodeCode(3, 2) for _ in range(3)]
    with torch.no_grad():
        for code in members:
            for parameter in (code.logits, code.mean, code.raw):
                parameter.normal_()
    together = batch_members(members)
    noise = torch.cat((torch.rand(7, 3, 5, 1), torch.randn(7, 3, 5, 2)), dim=-1)
    placed, density = together.place(noise), together.prior.log_prob(noise[..., 1:])
    for e, code in enumerate(members):
        torch.testing.assert_close(placed[:, e], code.place(noise[:, e]), rtol=1e-6, atol=1e-6)
        normals = Independent(Normal(code.mean, smooth_range(code.raw, -5.0, 2.0).exp()), 1)
        mixture = MixtureSameFamily(Categorical(logits=code.logits), normals)
        expected = mixture.log_prob(noise[:, e, :, 1:])
        torch.testing.assert_close(density[:, e], expected, rtol=1e-5, atol=1e-5)


def test_the_bound_reaches_the_closed_form() -> None:
    """x_t = z + ε_t: an episode is jointly normal with covariance 1 + σ²I; L_k comes from below."""
    torch.manual_seed(0)
    options = {"mean": "linear", "variance": "fixed", "sigma": 0.5}
    model = DynamicsModel(
        1, 1, density="gaussian", density_kwargs=options, members=2, reward=None,
        latent="episode", latent_dim=1,
    )  # fmt: skip
    head = model.networks["density"].mean_head
    with torch.no_grad():
        head.bias.zero_()
        head.weight.copy_(torch.tensor([0.0, 0.0, 1.0]).expand(2, 1, 3))
        prior = model.networks["episode"]  # a mixture of like parts is one of them: N(0, 1)
        prior.mean.zero_()
        prior.raw.zero_()
    lengths = [3, 1, 4]
    numbers = torch.arange(3).repeat_interleave(torch.tensor(lengths))
    change = torch.tensor([0.9, 1.1, 0.4, -1.0, 0.3, -0.2, 0.1, 0.2]).unsqueeze(1)
    states = torch.zeros(8, 1)
    data = Transitions(states, states, change, episodes=numbers)
    exact = 0.0
    for part in change.squeeze(1).split(lengths):
        n = len(part)
        law = MultivariateNormal(torch.zeros(n), torch.ones(n, n) + 0.25 * torch.eye(n))
        exact += law.log_prob(part).item()
    few = torch.stack([score(model, data, k=2, seed=seed) for seed in range(40)]).mean(0)
    many = score(model, data, k=20_000)
    assert torch.all(few > -exact / 8)  # minus a lower bound
    assert torch.allclose(many, torch.full((2,), -exact / 8), atol=0.01)


def test_a_held_code_learns_what_an_episode_hides() -> None:
    """The best without it pays log 2 at every step, with it once an episode; roll-outs part."""
    torch.manual_seed(0)
    model = DynamicsModel(
        1, 1, density="gaussian", density_kwargs={"hidden": (32,)}, members=2, reward=None,
        latent="episode", latent_dim=1,
    )  # fmt: skip
    options = FitOptions(steps=200, learning_rate=1e-2, batch_size=200, stretch=20)
    fit(model, drifts(150, 20, 0), options, torch.Generator().manual_seed(0))
    entropy = 0.5 * math.log(2.0 * math.pi * math.e * NOISE**2)
    found = score(model, drifts(50, 20, 1), k=256)
    # Best with a code log 2 / 20 = .03 above the entropy, without .69; a Gaussian without 1.6.
    assert torch.all(found < entropy + 0.3)
    generator = torch.Generator().manual_seed(0)
    particles = model.begin(200, generator)
    at = torch.zeros(200, 1)
    for _ in range(8):
        at = particles.step(at, torch.zeros(200, 1), generator).next_states
    apart = ((at.abs() - 8.0).abs() < 3.0).float().mean()
    assert apart > 0.75 and 0.3 < (at > 0).float().mean() < 0.7
    one = model.member(1).begin(50, generator)  # a member alone holds codes too
    assert one.step(torch.zeros(50, 1), torch.zeros(50, 1), generator).next_states.std() > 0.5


def test_a_code_a_step_cannot() -> None:
    """The same data without a held code: particles forget, and end near the middle."""
    torch.manual_seed(0)
    model = DynamicsModel(1, 1, density="mixture", members=1, reward=None)
    options = FitOptions(steps=200, learning_rate=1e-2)
    fit(model, drifts(150, 20, 0), options, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    particles, at = model.begin(200, generator), torch.zeros(200, 1)
    for _ in range(8):
        at = particles.step(at, torch.zeros(200, 1), generator).next_states
    assert ((at.abs() - 8.0).abs() < 3.0).float().mean() < 0.5


def test_stretches_end_with_their_episode() -> None:
    """From any row, at most so many steps, none of another episode."""
    rows, mask = stretches_from(torch.tensor([0, 2, 3]), torch.tensor([5, 5, 5, 9, 9]), 2)
    assert rows[mask].tolist() == [0, 1, 2, 3, 4]
    assert mask.tolist() == [[True, True], [True, False], [True, True]]


@pytest.mark.parametrize("holdout", [0.0, 0.1])
def test_the_shortest_of_long_episodes_is_held_out(holdout: float) -> None:
    """Of 90 and 30 rows; without a holdout one episode is enough, and all are trained on."""
    numbers = torch.arange(2).repeat_interleave(torch.tensor([90, 30]))
    data = Transitions(*[torch.zeros(120, 1)] * 3, episodes=numbers)
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        train, held = _split_episodes(data, FitOptions(holdout=holdout), generator)
        assert (len(train), len(held)) == ((120, len(held)) if holdout == 0.0 else (90, 30))
    if holdout == 0.0:
        one = data.rows(numbers == 0)
        train, held = _split_episodes(one, FitOptions(holdout=holdout), generator)
        assert len(train) == len(held) == 90


def test_the_replay_buffer_tells_episodes() -> None:
    """Two environments side by side, a buffer that has gone round: every episode stays in order."""
    box = spaces.Box(-9.0, 99.0, (1,), np.float32)
    buffer = ReplayBuffer(8, box, box, n_envs=2, handle_timeout_termination=True)
    for t in range(6):  # the buffer holds 4 steps of each
        now = np.array([[t], [10 + t]], dtype=np.float32)
        dones = np.array([t == 3, False])
        buffer.add(now, now + 1, now, np.zeros(2), dones, [{"TimeLimit.truncated": True}, {}])
    data = replay_transitions(buffer)
    assert data.states.flatten().tolist() == [2, 3, 4, 5, 12, 13, 14, 15]
    assert data.episodes is not None
    assert data.episodes.tolist() == [1, 1, 2, 2, 3, 3, 3, 3]
    assert data.terminations is not None and data.terminations.sum() == 0.0


def test_what_does_not_fit_is_refused() -> None:
    """No episodes, one alone, one in parts; a step's density where only episodes have one."""
    model = DynamicsModel(1, 1, density="gaussian", members=1, reward=None, latent="episode")
    good = drifts(2, 3, 0)
    bare = Transitions(good.states, good.actions, good.next_states)
    with pytest.raises(ValueError, match=r"episodes: got None, expected \(N,\)"):
        fit(model, bare)
    with pytest.raises(ValueError, match="episodes: got 1, expected at least 2"):
        fit(model, drifts(1, 4, 0))
    with pytest.raises(ValueError, match="episodes: got an episode in parts"):
        Transitions(*[torch.zeros(3, 1)] * 3, episodes=[0, 1, 0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="latent: got 'episode', expected 'step'"):
        log_density(model, good)
    with pytest.raises(ValueError, match="latent: got 'epsode', expected one of step, episode"):
        DynamicsModel(1, 1, latent="epsode")
    parts = spread(model, good.states, good.actions, 4)  # by draws it can be asked for
    assert torch.isfinite(parts.aleatoric).all()
