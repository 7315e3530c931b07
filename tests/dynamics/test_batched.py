"""An ensemble computed as one batch is its members computed alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vaerl.dynamics import DynamicsModel, FitOptions, Transitions, fit, score

KINDS: list[tuple[str, dict[str, Any]]] = [
    ("gaussian", {}),
    ("gaussian", {"variance": "state-independent", "mean": "linear"}),
    ("gaussian", {"variance": "fixed"}),
    ("mixture", {}),
    ("cvae", {"latent_dims": (3, 2)}),
    ("cvae", {"prior": "gaussian", "encoder_gradient": "total"}),
    ("cvae", {"prior": "standard", "context_hidden": (), "objective": "vae-k"}),
    ("imle", {"hidden": 16}),
    ("flow", {}),
    ("flow", {"family": "NICE"}),
]


def data(count: int = 40) -> Transitions:
    """Random transitions with 3 states and 2 actions."""
    torch.manual_seed(1)
    states, actions = torch.randn(count, 3), torch.randn(count, 2)
    after = states + 0.1 * torch.randn(count, 3)
    return Transitions(states, actions, after, torch.randn(count), torch.rand(count) < 0.5)


def model(density: str, options: dict[str, Any], **others: Any) -> DynamicsModel:
    """Three members, standardised to `data`."""
    torch.manual_seed(0)
    made = DynamicsModel(
        3, 2, density=density, density_kwargs=options, members=3, termination="learned", **others
    )
    made.standardise(data())
    return made


@pytest.mark.parametrize(("density", "options"), KINDS)
def test_batch_gives_what_each_member_gives_alone(density: str, options: dict) -> None:
    """Log-densities, or modes where these are bounds, and objectives agree; members differ."""
    ensemble, rows = model(density, options), data()
    context, x = ensemble.inputs(rows.states, rows.actions), ensemble.targets(rows)
    batched = ensemble.networks["density"]
    value = batched(context.expand(3, -1, -1))
    both = value.log_prob(x.expand(3, -1, -1)) if value.exact else value.mode(4)
    assert not torch.allclose(both[0], both[1])
    for index in range(3):
        plain = ensemble.member_density(index)(context)
        alone = plain.log_prob(x) if value.exact else plain.mode(4)
        assert torch.allclose(both[index], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("density", "options"), KINDS)
def test_training_a_batch_trains_each_member_alone(density: str, options: dict) -> None:
    """A gradient of the summed loss is each member's own; none leaks to another."""
    ensemble, rows = model(density, options), data()
    context, x = ensemble.inputs(rows.states, rows.actions), ensemble.targets(rows)
    batched = ensemble.networks["density"]
    loss, _ = batched.loss(context.expand(3, -1, -1), x.expand(3, -1, -1), diagnostics=False)
    assert loss.shape == (3, 40)
    loss[1].mean().backward()
    moved = 0
    for parameter in batched.parameters():
        if parameter.grad is not None:
            assert not parameter.grad[[0, 2]].any()
            moved += bool(parameter.grad[1].any())
    assert moved >= 1
    if ensemble.networks["density"](context.expand(3, -1, -1)).exact:
        plain = ensemble.member_density(1)
        plain.loss(context, x)[0].mean().backward()
        for (name, own), parameter in zip(
            plain.named_parameters(), batched.parameters(), strict=True
        ):
            assert torch.allclose(parameter.grad[1].reshape(own.shape), own.grad, atol=1e-5), name


def test_member_is_a_model_of_its_own() -> None:
    """It scores as in the ensemble, and training it leaves the ensemble alone."""
    ensemble, rows = model("gaussian", {}), data()
    scores = score(ensemble, rows)
    one = ensemble.member(2)
    assert torch.allclose(score(one, rows), scores[2:])
    fit(one, rows, FitOptions(steps=5))
    assert torch.equal(score(ensemble, rows), scores)


def test_state_dict_brings_back_members_elites_and_normalisers() -> None:
    """A model loaded into a fresh one draws the same steps from the same noise."""
    ensemble, rows = model("mixture", {}, elites=2), data()
    fit(ensemble, rows, FitOptions(steps=20, check_every=10))
    fresh = DynamicsModel(3, 2, density="mixture", members=3, elites=2, termination="learned")
    fresh.step(rows.states, rows.actions)  # copies for acting exist already
    fresh.load_state_dict(ensemble.state_dict())
    for one, other in zip(
        *(
            m.step(rows.states, rows.actions, torch.Generator().manual_seed(3))
            for m in (ensemble, fresh)
        ),
        strict=True,
    ):
        assert torch.equal(one, other)
