"""The native update is the torch update: same weights, batch and noise, same losses and steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.policies.common import TinyEnv
from vaerl.agents import SAC
from vaerl.checkpoint import load_checkpoint, save_checkpoint
from vaerl.native.library import VARIANTS, runs_here
from vaerl.policies.critic_layers import RENORM_AFTER
from vaerl.threads import limit_threads

UPDATES = 5
LATENT = {"hidden": 10, "latent_dims": (3,), "prior_components": 5}
# The gradient of a bias in front of a batch normalisation is 0: Adam would make whole steps of its
# rounding.
UNMAGNIFIED: dict[str, Any] = {"optimizer_kwargs": {"eps": 1e-3}}
FORMS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "gaussian": ("gaussian", {}, {}),
    "mixture": ("mixture", {}, {}),
    "cvae": ("cvae", {"num_auxiliary": 8}, {}),
    "odd sizes": (
        "cvae",
        {"net_arch": [30, 17, 9], "n_critics": 3, "density_kwargs": LATENT | {"blocks": 2}},
        {"batch_size": 37},
    ),
    "one critic, no trunk, one path": (
        "cvae",
        {"net_arch": {"pi": [], "qf": [5]}, "n_critics": 1, "num_auxiliary": 0},
        {"batch_size": 3, "ent_coef": 0.2},
    ),
    "standard prior, encoder alone, no block": (
        "cvae",
        {"density_kwargs": {"prior": "standard", "defensive": 0.0, "blocks": 0}},
        {"ent_coef": "anneal_10_1", "relative_entropy": True},
    ),
    "normal prior": ("cvae", {"density_kwargs": {"prior": "gaussian"}}, {"target_entropy": -1.0}),
    "large scales": ("cvae", {"num_auxiliary": 4}, {"batch_size": 33}),
    "switches": (
        "cvae",
        {"optimizer_kwargs": {"betas": (0.5, 0.999)}},
        {
            "normalize_observations": True,
            "scale_rewards": True,
            "learning_rate": "cos_1e-3_1e-4",
            "ent_coef": "auto_0.01",
            "target_entropy": "-|A|/2",
            "policy_delay": 2,
            "batch_size": 50,
        },
    ),
    "simba": (
        "cvae",
        {"net_arch": {"pi": [24], "qf": [32, 32]}, "num_auxiliary": 4},
        {"critic": "simba", "normalize_observations": True, "policy_delay": 2},
    ),
    "simba, odd sizes": (
        "gaussian",
        {"net_arch": {"pi": [24], "qf": [19]}, "n_critics": 3},
        {"critic": "simba", "batch_size": 37},
    ),
    "crossq": (
        "cvae",
        {"net_arch": {"pi": [24], "qf": [32, 40]}, "num_auxiliary": 4, **UNMAGNIFIED},
        {"critic": "crossq", "policy_delay": 3},
    ),
    "crossq, renormalising, odd sizes": (
        "gaussian",
        {"net_arch": {"pi": [24], "qf": [19]}, "n_critics": 3, **UNMAGNIFIED},
        {"critic": "crossq", "batch_size": 37, "normalize_observations": True},
    ),
    "returns of three steps": ("gaussian", {"n_critics": 5}, {"n_steps": 3, "batch_size": 65}),
}


def agent(form: str, native: bool = True, **more: Any) -> SAC:
    """An agent of one form with a full buffer and seeded noise."""
    density, policy, options = FORMS[form]
    options = options | more
    policy = options.pop("policy_kwargs", {"net_arch": [24, 40], **policy})
    options = {"batch_size": 48, "buffer_size": 300, "learning_starts": 100, **options}
    made = SAC(density, TinyEnv(), policy_kwargs=policy, seed=0, native=native, **options)
    made.learn(100)
    made.actor.noise.reseed(1)
    if form == "large scales":
        with torch.no_grad():
            made.actor.density.base.chain.generative[0].net.film.weight.mul_(1e3)
    if "renormalising" in form:
        for layer in made.critic.net[::3]:
            layer.steps.fill_(RENORM_AFTER + 1)
        with torch.no_grad():
            made.critic.net[1].bias[..., 0] = -100.0  # a dead unit
    return made


def both_updated(
    form: str, weights: torch.Tensor | None = None, **options: Any
) -> tuple[list[SAC], list[dict[str, Any]]]:
    """The same agent natively and in torch after some updates, and the last losses of each."""
    agents, losses = [agent(form, **options), agent(form, native=False)], [{}, {}]
    for step in range(UPDATES):
        batch = agents[0].replay_buffer.sample(agents[0].batch_size)
        follow = step % agents[0].policy_delay == 0
        losses = [each._update(batch, follow, weights) for each in agents]
        for each in agents if step % 2 else []:
            each._move_target()
    assert agents[0]._native._plan is not None, agents[0]._native._said
    return agents, losses


def assert_alike(agents: list[SAC], losses: list[dict[str, Any]]) -> None:
    """Losses to 1e-5, gradients (by their running means) to 1e-4, steps as far as Adam allows."""
    ours, theirs = losses
    assert ours.keys() == theirs.keys()
    for name, number in theirs.items():
        torch.testing.assert_close(ours[name], number.reshape(()), rtol=1e-5, atol=1e-5, msg=name)
    for part in ("actor", "critic"):
        one, other = (getattr(each, part) for each in agents)
        for (name, p), q in zip(one.named_parameters(), other.parameters(), strict=True):
            p_state, q_state = one.optimizer.state[p], other.optimizer.state[q]
            for moment in ("exp_avg", "exp_avg_sq"):
                gap, size = (p_state[moment] - q_state[moment]).norm(), q_state[moment].norm()
                assert gap <= 1e-4 * size + 1e-9, (name, moment, gap, size)
            assert p_state["step"] == q_state["step"]
    for (name, p), q in zip(
        agents[0].policy.state_dict().items(), agents[1].policy.state_dict().values(), strict=True
    ):
        # Adam divides by the gradient's own size: a step of 3e-4 may differ where that is tiny.
        torch.testing.assert_close(p, q, rtol=1e-4, atol=3e-5, msg=name)
    if agents[0].log_ent_coef is not None:
        torch.testing.assert_close(agents[0].log_ent_coef, agents[1].log_ent_coef)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("form", FORMS)
def test_the_update_is_the_one_in_torch(form: str, threads: int) -> None:
    """Over five updates, for every covered form and odd sizes."""
    with limit_threads(threads):
        assert_alike(*both_updated(form))


@pytest.mark.parametrize("form", [form for form in FORMS if "odd sizes" in form])
def test_weights_are_factors_on_the_critics_losses(form: str) -> None:
    """As in torch; zeros leave no loss."""
    assert_alike(*both_updated(form, torch.linspace(0.1, 2.0, 37).unsqueeze(1)))
    _, losses = both_updated(form, torch.zeros(37, 1))
    assert [loss["critic_loss"].item() for loss in losses] == [0.0, 0.0]


@pytest.mark.parametrize("form", ["odd sizes", "simba", "crossq"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_gives_the_same(
    variant: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that this processor can run, with their own number of lanes."""
    if not runs_here(variant):
        pytest.skip(f"{variant} is not for this processor")
    monkeypatch.setenv("VAERL_NATIVE", variant)
    agents, losses = both_updated(form)
    assert agents[0]._native._plan.variant == variant
    assert_alike(agents, losses)


@pytest.mark.parametrize("form", ["gaussian", "cvae", "odd sizes", "simba", "crossq"])
def test_products_in_bfloat16_change_little(form: str) -> None:
    """Losses to 1e-3, and gradients point the same way: cosines of at least .999 where torch's
    own do not vanish, over five updates."""
    agents, (ours, theirs) = both_updated(form, matmul_precision="bf16")
    if not agents[0]._native._plan.spec.half:
        pytest.skip("no products in bfloat16 here")
    for name, number in theirs.items():
        torch.testing.assert_close(ours[name], number.reshape(()), rtol=1e-3, atol=1e-3, msg=name)
    for name in ("actor", "critic"):
        whole = [
            torch.cat([part.optimizer.state[p]["exp_avg"].flatten() for p in part.parameters()])
            for part in (getattr(each, name) for each in agents)
        ]
        assert torch.cosine_similarity(*whole, dim=0) >= 0.999
        assert not torch.equal(*whole), "it was not used"


@pytest.mark.parametrize("form", ["gaussian", "cvae", "simba", "crossq"])
def test_saving_and_resuming_cross_the_border(form: str, tmp_path: Any) -> None:
    """What the native update has trained goes on in torch, and the reverse, as if uninterrupted."""
    (native, torch_), _ = both_updated(form)
    for name, saved in (("a", native), ("b", torch_)):
        saved.save(tmp_path / f"{name}.zip")
        save_checkpoint(saved, tmp_path / name)
    loaded = [SAC.load(tmp_path / f"{name}.zip", env=TinyEnv()) for name in "ab"]
    loaded += [load_checkpoint(tmp_path / name, env=TinyEnv()) for name in "ab"]
    for each, other in zip(loaded, (False, True) * 2, strict=True):
        each.native = other
    batch = native.replay_buffer.sample(native.batch_size)
    agents = [native, *loaded]
    losses = []
    for each in agents:
        each.set_logger(native.logger)
        each.actor.noise.reseed(2)
        losses.append(each._update(batch))
    assert [each._native._plan is not None for each in loaded] == [False, True] * 2
    for number in range(1, len(agents)):
        assert_alike([native, agents[number]], [losses[0], losses[number]])


def test_the_policy_acts_with_the_new_weights() -> None:
    """Its fast form is made again after an update."""
    (native, torch_), _ = both_updated("cvae")
    obs = native.observation_space.sample()
    assert_same_action(native, torch_, obs)
    batch = native.replay_buffer.sample(native.batch_size)
    for each in (native, torch_):
        for group in each.actor.optimizer.param_groups:
            group["lr"] = 0.1
        each._update(batch)
    assert_same_action(native, torch_, obs)


@pytest.mark.parametrize("form", FORMS)
def test_it_draws_the_actions_of_the_modules(form: str) -> None:
    """Of one observation and of several, from the same stream; None of another shape's memory."""
    made = agent(form)
    made._update(made.replay_buffer.sample(made.batch_size))
    native = made._native._plan.act
    for rows in (1, 20, 1):
        obs = np.stack([made.observation_space.sample() for _ in range(rows)])
        made.actor.noise.reseed(3)
        found = native(obs)
        made.actor.noise.reseed(3)
        with torch.no_grad():
            wanted = made.actor(torch.as_tensor(obs))
        np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-4, atol=1e-5)
    assert native(np.full_like(obs, np.nan)) is None


def test_where_it_acts() -> None:
    """While `learn` collects; not in `predict`, and not where hooks want to be called."""
    made, calls = agent("cvae"), []
    made._update(made.replay_buffer.sample(made.batch_size))
    found: list[Any] = []
    plain = made._native._plan.act
    made._native._plan.act = lambda obs: found.append(plain(obs)) or found[-1]
    made.learn(1, reset_num_timesteps=False)
    (drawn,) = found
    assert drawn is not None
    made.predict(made._last_obs)
    assert len(found) == 1 and made.actor._fast.native is None
    made.actor.latent_pi.register_forward_hook(lambda *_: calls.append(1))
    made.learn(1, reset_num_timesteps=False)
    assert calls and len(found) == 1


def assert_same_action(one: SAC, other: SAC, obs: Any) -> None:
    actions = [torch.as_tensor(each.predict(obs, deterministic=True)[0]) for each in (one, other)]
    torch.testing.assert_close(*actions, rtol=1e-3, atol=1e-3)
