"""Roll-outs: moments of TS1, TS∞ and expectation; aleatoric and epistemic spread told apart."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from vaerl.dynamics import DynamicsModel, Rollout, deviation, spread

DRIFT = torch.tensor([-1.0, 0.0, 4.0])
SIGMA = 0.5


def drifting(propagation: str = "tsinf", density: str = "gaussian") -> DynamicsModel:
    """Three members that move by −1, 0 and 4 a step, each with noise of 0.5."""
    torch.manual_seed(0)
    model = DynamicsModel(
        1,
        1,
        density=density,
        density_kwargs={"variance": "fixed", "sigma": SIGMA},
        members=3,
        reward=None,
        propagation=propagation,
    )
    head = model.networks["density"].mean_head
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(DRIFT.reshape(3, 1, 1))
    return model


def roll(model: DynamicsModel, rows: int, steps: int, seed: int = 0) -> torch.Tensor:
    """Where the particles are after `steps` steps from 0."""
    generator = torch.Generator().manual_seed(seed)
    particles = model.begin(rows, generator)
    at = torch.zeros(rows, 1)
    for _ in range(steps):
        at = particles.step(at, torch.zeros(rows, 1), generator).next_states
    return at.squeeze(1)


@pytest.mark.parametrize("rows", [30_000, 29_999])
@pytest.mark.parametrize("propagation", ["ts1", "tsinf"])
def test_moments_of_trajectory_sampling(propagation: str, rows: int) -> None:
    """After T steps: mean T E[d]; variance T² Var[d] + Tσ² if members are held, else T(Var[d] +
    σ²)."""
    steps = 4
    at = roll(drifting(propagation), rows, steps)
    between = DRIFT.var(correction=0).item()
    factor = steps if propagation == "ts1" else steps**2
    variance = factor * between + steps * SIGMA**2
    assert at.mean().item() == pytest.approx(steps * DRIFT.mean().item(), abs=0.1)
    assert at.var().item() == pytest.approx(variance, rel=0.05)


def test_held_members_part_for_good() -> None:
    """Under TS∞ a third of the particles follows each member; rows keep theirs."""
    at = roll(drifting("tsinf"), 3000, 40)
    nearest = (at.unsqueeze(1) - 40.0 * DRIFT).abs().argmin(1)
    assert nearest.bincount().tolist() == [1000, 1000, 1000]


def test_every_row_meets_every_member() -> None:
    """A single row is not tied to the first member."""
    model = drifting("tsinf")
    found = {round(roll(model, 1, 5, seed).item() / 5.0) for seed in range(40)}
    assert found == {-1, 0, 4}


def test_expectation_is_the_mean_path() -> None:
    """All particles move by the mean of the members, without noise."""
    at = roll(drifting("expectation"), 7, 3)
    assert torch.allclose(at, torch.full((7,), 3.0))


def test_elites_alone_take_part() -> None:
    """With the last member as the only elite every particle moves by 4."""
    model = drifting("ts1")
    model.elites = torch.tensor([2])
    model.changed()
    assert roll(model, 50, 10).mean().item() == pytest.approx(40.0, abs=1.0)


def test_next_states_stay_near_the_data() -> None:
    """A roll-out that runs off is held at the box of the data, widened by its width."""
    model = drifting("ts1")
    model.state_low.fill_(-3.0)
    model.state_high.fill_(3.0)
    assert roll(model, 50, 200).abs().max() <= 3.0


def test_known_reward_and_termination_see_the_step() -> None:
    """They get states, actions and next states; what is learned is not asked for."""
    model = DynamicsModel(
        1,
        1,
        density="gaussian",
        members=2,
        reward=lambda s, a, after: (after - s - a).squeeze(1),
        termination=lambda s, a, after: after.squeeze(1) > 0.0,
    )
    states, actions = torch.randn(64, 1), torch.randn(64, 1)
    step = model.step(states, actions)
    assert torch.allclose(step.rewards, (step.next_states - states - actions).squeeze(1))
    assert torch.equal(step.dones, step.next_states.squeeze(1) > 0.0)


def test_spread_divides_into_noise_and_disagreement() -> None:
    """One law for all members: no epistemic part. No noise: half the mean energy distance."""
    rows = torch.zeros(3, 1)
    noisy = drifting()
    with torch.no_grad():
        noisy.networks["density"].mean_head.bias.zero_()
    noisy.changed()
    parts = spread(noisy, rows, rows, 400, torch.Generator().manual_seed(0))
    assert torch.allclose(parts.aleatoric, torch.full((3,), 2.0 * SIGMA / torch.pi**0.5), rtol=0.05)
    assert parts.epistemic.abs().max() < 0.01

    sure = drifting()
    sure.networks["density"].sigma_offset.fill_(-20.0)
    sure.changed()
    parts = spread(sure, rows, rows, 10)
    pairs = (DRIFT[:, None] - DRIFT[None, :]).abs().mean()
    assert parts.aleatoric.max() < 1e-6
    assert torch.allclose(parts.epistemic, pairs.expand(3), rtol=1e-4)


def test_deviation_is_that_of_members_and_latents() -> None:
    """Of the members' means, whatever their noise; and of what the latents decode to."""
    rows = torch.zeros(3, 1)
    wanted = DRIFT.std(correction=0).expand(3)
    assert torch.allclose(deviation(drifting(), rows, rows, 2), wanted, rtol=1e-5)
    torch.manual_seed(0)
    one = DynamicsModel(1, 1, density="imle", members=1, reward=None)
    generator = torch.Generator().manual_seed(0)
    means = one.member_values(rows, rows).sample_mean((4000,), generator)
    found = deviation(one, rows, rows, 4000, generator)
    assert found.min() > 0.01
    # a deviation of n normal draws has an error of 1/√2n, here 0.011, and so has the other
    assert torch.allclose(found, means.std((0, 1)).mean(-1), rtol=0.1)


def test_deviation_is_refused_where_it_would_be_noise_or_nothing() -> None:
    """All of a flow's noise; 0 for one Gaussian, and for one elite of two. A mixture has some."""
    rows = torch.zeros(3, 1)
    model = partial(DynamicsModel, 1, 1, reward=None)
    for one, message in (
        (
            model(density="flow", members=3),
            "density 'flow', whose deviation would be all its noise",
        ),
        (model(density="gaussian", members=1), "one elite of density 'gaussian', which deviates"),
        (model(density="gaussian", members=2, elites=1), "one elite of density 'gaussian'"),
    ):
        with pytest.raises(ValueError, match=rf"^model: got {message}[^\n]*$"):
            deviation(one, rows, rows)
    assert deviation(model(density="mixture", members=1), rows, rows, 64).min() > 0.01


def test_propagation_is_checked() -> None:
    """An unknown name is refused in one line."""
    with pytest.raises(ValueError, match=r"propagation: got 'ts2', expected one of ts1, tsinf"):
        Rollout(drifting(), "ts2", 3)
