"""SAC's options for speed: products in bfloat16, and torch.compile."""

from __future__ import annotations

import copy
import pickle
import shutil
import warnings
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.policies.common import DENSITIES, TinyEnv
from vaerl.agents import MBPO, SAC
from vaerl.agents.compiled import Compiled
from vaerl.agents.critics import Critics, MlpCritics, regression, slopes, slopes_by_row
from vaerl.agents.precision import low_layers, low_products
from vaerl.checkpoint.load import load_checkpoint
from vaerl.checkpoint.save import save_checkpoint

FAST: dict[str, Any] = {"learning_starts": 16, "batch_size": 16, "buffer_size": 256, "seed": 0}
WIDE: dict[str, Any] = {"net_arch": [128, 128]}
SPEED: dict[str, Any] = {"matmul_precision": "bf16", "compile": True}
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++"))), reason="no C++ compiler"
)
BACKENDS = ["eager", pytest.param("inductor", marks=[pytest.mark.slow, needs_compiler])]
"""The first traces the function as a whole, but generates no code."""


def agent_of(density: str, policy_kwargs: dict[str, Any] = WIDE, **options: Any) -> SAC:
    """An agent with something in its buffer, before its first update."""
    return SAC(density, TinyEnv(), policy_kwargs=policy_kwargs, **FAST, **options).learn(16)


def update(agent: SAC, updates: int, batch_size: int) -> Any:
    """Updates on data and with noise that are the same at every call; what they log."""
    agent.set_random_seed(1)
    agent.train(updates, batch_size)
    return agent.logger.name_to_value


def cosine(a: Tensor, b: Tensor) -> float:
    """Of the angle between two gradients."""
    return float(torch.cosine_similarity(a.flatten(), b.flatten(), 0))


@pytest.mark.parametrize("architecture", [[128, 128], [256, 128, 128], [128, 16, 128]])
@pytest.mark.parametrize("waves", [0, 64])
def test_critics_in_bf16_are_those_in_float32(architecture: list[int], waves: int) -> None:
    """Loss, gradients, values and slopes are near, and the same if all layers are narrow."""
    kwargs = {"net_arch": {"pi": [8], "qf": architecture}, "critic_frequencies": waves}
    agent = agent_of("gaussian", kwargs)
    batch = agent.replay_buffer.sample(64)
    inputs, target = (batch.observations, batch.actions), torch.randn(64, 1)
    exact, low = (MlpCritics(agent.critic, precision) for precision in ("float32", "bf16"))
    found: list[tuple[Tensor, list[Tensor]]] = []
    for critics in (exact, low):
        loss = critics.regress(*inputs, target)
        gradients = [p.grad for p in agent.critic.parameters() if p.grad is not None]
        assert all(gradient.dtype is torch.float32 for gradient in gradients)
        found.append((loss, gradients))
    wide = low_layers(agent.critic, "bf16")
    assert bool(wide) is (architecture != [128, 16, 128] or waves > 0)
    differs = not torch.equal(found[0][0], found[1][0])
    assert differs is bool(wide) and found[1][0].dtype is torch.float32
    assert found[1][0].item() == pytest.approx(found[0][0].item(), rel=5e-3)
    for expected, value in zip(found[0][1], found[1][1], strict=True):
        assert cosine(expected, value) > 0.95  # a unit at the edge of its ReLU may change sides
    assert cosine(*(torch.cat([g.flatten() for g in gradients]) for _, gradients in found)) > 0.99
    (q, slope), (low_q, low_slope) = (critics.lowest(*inputs) for critics in (exact, low))
    assert torch.allclose(q, low_q, atol=1e-2) and cosine(slope, low_slope) > 0.99
    with low_products(wide):  # the way through autograd rounds in the same places
        loss = Critics(agent.critic).regress(*inputs, target)
    assert loss.item() == pytest.approx(found[1][0].item(), rel=1e-3)


@pytest.mark.parametrize("architecture", [[], [16], [16, 8]])
def test_slopes_by_row_are_those_through_every_critic(architecture: list[int]) -> None:
    """What a GPU works out for all rows is what a processor works out for the rows that count."""
    agent = agent_of("gaussian", {"net_arch": {"pi": [8], "qf": architecture}, "n_critics": 3})
    networks, x = MlpCritics(agent.critic).networks, torch.randn(32, 4)
    for expected, value in zip(slopes_by_row(networks, x, 2), slopes(networks, x, 2), strict=True):
        assert torch.allclose(expected, value, atol=1e-6)


@pytest.mark.parametrize("density", [*DENSITIES, "flow"])
def test_an_update_in_bf16_follows_that_in_float32(density: str) -> None:
    """Losses within a percent, gradients within 8 degrees, and float32 wherever one looks."""
    if density == "flow":
        pytest.importorskip("zuko")
    agents = [agent_of(density, matmul_precision=name) for name in ("float32", "bf16")]
    exact, low = (update(agent, 1, 64) for agent in agents)
    for key in ("train/critic_loss", "train/actor_loss", "train/entropy_lower"):
        assert low[key] == pytest.approx(exact[key], rel=1e-2, abs=1e-3), key
    assert low["train/critic_loss"] != exact["train/critic_loss"]
    for part in ("actor", "critic"):
        gradients = [
            torch.cat([p.grad.flatten() for p in getattr(agent, part).parameters()])
            for agent in agents
        ]
        assert cosine(*gradients) > 0.99 and gradients[1].dtype is torch.float32
    states = agents[1].actor.optimizer.state.values()
    assert all(t.dtype is torch.float32 for state in states for t in state.values())
    assert all(p.dtype is torch.float32 for p in agents[1].policy.parameters())


@pytest.mark.parametrize("density", DENSITIES)
def test_log_densities_are_float32s(density: str) -> None:
    """In an update the context is rounded; the density at a given context is exactly the same."""
    agent = agent_of(density, matmul_precision="bf16")
    obs = agent.replay_buffer.sample(8).observations
    head = agent.actor.density
    with torch.no_grad():
        context = agent.actor.context(obs)
        draws = []
        for layers in ([], agent._low_layers):
            generator = torch.Generator().manual_seed(0)
            with low_products(layers):
                draws.append(head(context).rsample_and_log_prob(4, (), generator))
                assert torch.equal(agent.actor.context(obs), context) is (not layers)
    for expected, value in zip(*draws, strict=True):
        assert torch.equal(expected, value) and value.dtype is torch.float32


def test_only_updates_are_rounded() -> None:
    """Outside of an update, even one that failed, networks run in float32."""
    agents = [agent_of("cvae", matmul_precision=name) for name in ("float32", "bf16")]
    obs = agents[0].get_env().reset()
    value = agents[0].critic(torch.as_tensor(obs), torch.zeros(1, 2))[0]

    def broken(batch: Any) -> dict[str, Tensor]:
        assert not torch.equal(agents[1].critic(torch.as_tensor(obs), torch.zeros(1, 2))[0], value)
        raise KeyError("broken")

    agents[1]._update = broken
    with pytest.raises(KeyError):
        agents[1].train(1, 16)
    assert torch.equal(agents[1].critic(torch.as_tensor(obs), torch.zeros(1, 2))[0], value)
    actions = [agent.predict(obs, deterministic=True)[0] for agent in agents]
    assert np.array_equal(*actions)


@pytest.mark.parametrize("backend", BACKENDS)
def test_compiled_updates_are_the_same_updates(
    backend: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first update on, for every density and through copies, pickles and SB3's zip."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    kwargs = {"net_arch": [8]}
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for density in DENSITIES:
            agents = [agent_of(density, kwargs, compile=flag) for flag in (False, True)]
            run = agents[1]._critics._regression
            assert not run.by_shape, "nothing is compiled before the first update"
            exact, compiled = (update(agent, 3, 16) for agent in agents)
            assert len(run.by_shape) == 1 and run.function not in run.by_shape.values()
            for key in ("train/critic_loss", "train/actor_loss", "train/ent_coef_loss"):
                assert compiled[key] == pytest.approx(exact[key], rel=1e-4, abs=1e-5), key
            others = agents[1].policy.state_dict()
            for name, value in agents[0].policy.state_dict().items():
                assert torch.allclose(value, others[name], rtol=1e-4, atol=1e-5), name
        assert not pickle.loads(pickle.dumps(run)).by_shape
        copied = copy.deepcopy(agents[1])
        assert not copied._critics._regression.by_shape
        agents[1].save(tmp_path / "agent.zip")
        loaded = SAC.load(tmp_path / "agent.zip", env=TinyEnv(), device="cpu")
        assert loaded.compile and isinstance(loaded._critics._regression, Compiled)
        for agent in (copied, loaded.learn(16)):
            update(agent, 1, 16)


def test_critics_that_cannot_be_compiled_run_as_they_are() -> None:
    """Through autograd, where the products are still rounded."""
    kwargs = WIDE | {"activation_fn": torch.nn.Tanh}
    agents = [agent_of("gaussian", kwargs, **options) for options in ({}, SPEED)]
    assert type(agents[1]._critics) is Critics
    losses = [update(agent, 1, 64)["train/critic_loss"] for agent in agents]
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=1e-2)


def test_mbpo_has_the_options_too(tmp_path: Any) -> None:
    """They reach the update it shares with SAC, and come back from a checkpoint."""
    agent = MBPO("gaussian", TinyEnv(), policy_kwargs=WIDE, members=2, **FAST, **SPEED)
    assert isinstance(agent._critics._regression, Compiled)
    assert {dtype for network in agent._critics.networks for *_, dtype in network} == {
        torch.float32,
        torch.bfloat16,
    }
    save_checkpoint(agent, tmp_path / "checkpoint", num_timesteps=0)
    loaded = load_checkpoint(tmp_path / "checkpoint")
    assert loaded.matmul_precision == "bf16" and loaded.compile is True
    assert len(loaded._low_layers) == len(agent._low_layers) > 0


def test_options_are_off_unless_asked_for_and_checked(tmp_path: Any) -> None:
    """One line each, when made and when loaded."""
    agent = agent_of("gaussian")
    assert agent._low_layers == [] and agent._critics._regression is regression
    with pytest.raises(
        ValueError, match="matmul_precision: got 'fp8', expected one of float32, bf"
    ):
        SAC("cvae", TinyEnv(), matmul_precision="fp8")
    with pytest.raises(ValueError, match="compile: got 'yes', expected True or False"):
        SAC("cvae", TinyEnv(), compile="yes")
    agent.save(tmp_path / "agent")
    with pytest.raises(ValueError, match="matmul_precision: got 'fp8'"):
        SAC.load(tmp_path / "agent", matmul_precision="fp8")
    with pytest.raises(ValueError, match="compile: got 1, expected True or False"):
        SAC.load(tmp_path / "agent", compile=1)
    assert SAC("cvae", TinyEnv(), compile=np.True_).compile is True


def test_options_take_effect_when_they_are_set_later() -> None:
    """At the next update, where they are checked, too."""
    agents = [agent_of("gaussian", **options) for options in ({"matmul_precision": "bf16"}, {})]
    exact = agents[1]._critics
    agents[1].matmul_precision = "bf16"
    losses = [update(agent, 2, 64)["train/critic_loss"] for agent in agents]
    assert losses[0] == losses[1] and agents[1]._critics is not exact
    agents[1].compile = True
    agents[1].train(0)
    assert isinstance(agents[1]._critics._regression, Compiled)
    agents[1].matmul_precision = "fp8"
    with pytest.raises(ValueError, match="matmul_precision: got 'fp8'"):
        agents[1].train(1, 16)
