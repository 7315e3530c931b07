"""The off-policy actor keeps SB3's contract, for every density."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.sac.policies import SACPolicy as SB3SACPolicy

from tests.policies.common import ACT, DENSITIES, DICT_OBS, OBS, SPACES, observations, sac_policy


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("batch", [1, 4])
def test_shapes_and_range(density: str, kind: str, batch: int) -> None:
    """Actions (B, d) in [−1, 1], log π (B,), both with gradient."""
    policy = sac_policy(density, SPACES[kind])
    obs = observations(SPACES[kind], batch)
    actions, log_prob = policy.actor.action_log_prob(obs)
    assert actions.shape == (batch, 2)
    assert log_prob.shape == (batch,)
    assert actions.requires_grad and log_prob.requires_grad
    for deterministic in (False, True):
        acted = policy(obs, deterministic)
        assert acted.shape == (batch, 2)
        assert acted.abs().max() <= 1.0


@pytest.mark.parametrize("density", DENSITIES)
def test_every_parameter_of_the_actor_trains(density: str) -> None:
    """Trunk, decoder, prior and recognition network are the actor's and get a gradient."""
    policy = sac_policy(density)
    owned = {id(p) for group in policy.actor.optimizer.param_groups for p in group["params"]}
    actions, log_prob = policy.actor.action_log_prob(observations(OBS, 64))
    (log_prob.mean() + (actions * torch.tensor([1.0, -2.0])).mean()).backward()
    for name, parameter in policy.actor.named_parameters():
        assert id(parameter) in owned, name
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0.0, name


def test_log_prob_of_a_cvae_is_the_upper_bound() -> None:
    """Over own actions, what SAC is given lies above log π, and fresh paths alone below it."""
    policy = sac_policy("cvae", num_auxiliary=1)
    obs = observations(OBS, 1).expand(1024, -1)
    with torch.no_grad():
        actions, upper = policy.actor.action_log_prob(obs)
        value = policy.action_density(obs)
        lower = value.log_prob_bounds(actions, k=1).lower
        close = value.log_prob_bounds(actions, k=64).lower
    assert upper.mean() > close.mean() + 0.01
    assert lower.mean() < close.mean() - 0.01


def test_deterministic_action_is_the_densest_of_fixed_candidates() -> None:
    """Deterministic prediction repeats, ignores every random stream and lies where π is dense."""
    policy = sac_policy("cvae")
    obs = observations(OBS, 8)
    state, calls = torch.get_rng_state(), policy.actor.noise.calls
    first, second = policy(obs, True), policy(obs, True)
    assert torch.equal(first, second)
    assert torch.equal(state, torch.get_rng_state())
    assert calls == policy.actor.noise.calls
    value = policy.action_density(obs)
    with torch.no_grad():
        best = value.base.log_prob_bounds(torch.atanh(first), 256).lower
        others = value.base.log_prob_bounds(value.base.sample((64,)), 16).lower
    assert best.mean() > others.median(0).values.mean() + 0.2
    assert not torch.allclose(first, policy.actor.density(policy.actor.context(obs)).mode(1))


@pytest.mark.parametrize("density", DENSITIES)
def test_train_and_eval_agree(density: str) -> None:
    """No dropout and no batch statistics: a mode switch changes nothing."""
    policy = sac_policy(density)
    obs = observations(OBS, 4)
    results = []
    for training in (True, False):
        policy.set_training_mode(training)
        assert policy.actor.density.training is training
        policy.actor.noise.reseed(1)
        results.append(policy.actor.action_log_prob(obs))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_acting_leaves_global_streams_alone() -> None:
    """Sampling an action draws from the head's own stream only."""
    policy = sac_policy("cvae")
    before = torch.get_rng_state()
    policy.actor.action_log_prob(observations(OBS, 4))
    policy(observations(OBS, 4))
    assert torch.equal(before, torch.get_rng_state())


def test_a_copy_is_independent() -> None:
    """deepcopy gives a policy with the same stream and its own parameters."""
    policy = sac_policy("cvae")
    twin = copy.deepcopy(policy)
    obs = observations(OBS, 4)
    assert torch.equal(policy(obs), twin(obs))
    with torch.no_grad():
        next(twin.actor.parameters()).add_(1.0)
    assert not torch.equal(policy(obs), twin(obs))


def test_gsde_is_refused() -> None:
    """One line says why."""
    policy = sac_policy("gaussian")
    with pytest.raises(ValueError, match=r"^use_sde: got True, expected False: gSDE"):
        sac_policy("gaussian", use_sde=True)
    for call in (policy.reset_noise, policy.actor.reset_noise, policy.actor.get_std):
        with pytest.raises(NotImplementedError, match=r"^use_sde: "):
            call()


def test_gaussian_parameters_are_refused() -> None:
    """A density has no mean and log std; the line names what to call instead."""
    with pytest.raises(NotImplementedError, match="use action_density"):
        sac_policy("gaussian").actor.get_action_dist_params(observations(OBS, 1))


@pytest.mark.parametrize(
    ("kwargs", "line"),
    [
        ({"density": "cvea"}, "density: got 'cvea', did you mean 'cvae'?"),
        ({"density_kwargs": {"latent_dim": (2,)}}, "latent_dim: unknown option .*did you mean"),
        ({"density_kwargs": {"squash": False}}, "density_kwargs: got 'squash'"),
        ({"density_kwargs": 3}, "density_kwargs: got 3, expected a dict"),
        ({"num_auxiliary": -1}, "num_auxiliary: got -1"),
        ({"num_candidates": 0}, "num_candidates: got 0"),
    ],
)
def test_unknown_options_are_refused(kwargs: dict, line: str) -> None:
    """One line names argument, value and what is legal or near."""
    with pytest.raises(ValueError, match=line):
        sac_policy(**kwargs)


def test_callers_dicts_stay_as_they_are() -> None:
    """Policies copy the options they are given."""
    options, optimizer = {"latent_dims": [2]}, {"eps": 1e-6}
    policy = sac_policy(density_kwargs=options, optimizer_kwargs=optimizer)
    policy.actor.density_kwargs["hidden"] = 3
    assert options == {"latent_dims": [2]}
    assert optimizer == {"eps": 1e-6}
    assert policy.actor.density.base.latent_dims == (2,)


def test_a_fresh_cvae_head_covers_the_box_with_parts_that_stand_apart() -> None:
    """Before the squash a head starts near N(0, 1), most of it spread between the latents."""
    density = sac_policy("cvae").actor.density
    context = torch.randn(512, density.context_dim, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        value = density(context).base
        u, path = value.rsample_with_latents((64,))
        decoder = value.chain.decode(value.chain.generate(context), path)
    assert u.std((0, 1)).sub(1.0).abs().max() < 0.3
    assert u.mean((0, 1)).abs().max() < 0.3
    assert (decoder.mean.std((0, 1)) > 1.5 * decoder.log_sigma.exp().mean((0, 1))).all()


def test_matrix_actions_are_flattened_for_the_density() -> None:
    """A Box of shape (2, 3) is an event of 6 dimensions; predictions have the box's shape."""
    act = spaces.Box(-1.0, 1.0, (2, 3), np.float32)
    policy = sac_policy("cvae", act=act)
    assert policy.actor.density.event_dim == 6
    assert policy.predict(np.zeros((5, 3), np.float32))[0].shape == (5, 2, 3)
    assert policy.predict(np.zeros(3, np.float32), deterministic=True)[0].shape == (2, 3)


def test_predictions_fill_the_box_and_stay_inside() -> None:
    """Actions are scaled from (−1, 1) to the space's bounds."""
    policy = sac_policy("cvae", DICT_OBS)
    obs = {k: v.numpy() for k, v in observations(DICT_OBS, 256).items()}
    actions, _ = policy.predict(obs)
    assert (actions >= ACT.low).all() and (actions <= ACT.high).all()
    assert actions.max() > 1.0 and actions.min() < -1.0


def test_training_mode_is_sb3s() -> None:
    """Actor and critic with all their modules, but not the target; a module's own way counts."""

    class Frozen(torch.nn.BatchNorm1d):
        def train(self, mode: bool = True) -> Frozen:
            return super().train(False)

    ours, theirs = sac_policy(), sac_policy()
    for policy in (ours, theirs):
        policy.actor.latent_pi.append(torch.nn.Sequential(Frozen(16), torch.nn.Dropout()))
    for mode in (False, True, False):
        ours.set_training_mode(mode)
        SB3SACPolicy.set_training_mode(theirs, mode)
        modes = [[m.training for m in policy.modules()] for policy in (ours, theirs)]
        assert modes[0] == modes[1]
