"""The parts of a critic: each does what it says wherever it stands, and nothing else passes."""

from __future__ import annotations

from typing import Any

import pytest
import stable_baselines3
import torch

from tests.policies.common import TinyEnv
from vaerl.agents import SAC
from vaerl.policies import SACPolicy
from vaerl.policies.critic_layers import BatchNorms

TINY: dict[str, Any] = {"net_arch": {"pi": [8], "qf": [8, 8]}}
FAST: dict[str, Any] = {"learning_starts": 16, "batch_size": 16, "buffer_size": 256, "seed": 0}
BY_BATCH = [
    ("sac", {"last_norm": "batch"}),
    ("sac", {"last_norm": "renorm", "order": "before"}),
    ("sac", {"norm": "layer", "last_norm": "renorm"}),
    ("sac", {"norm": "batch", "last_norm": "rms"}),
    ("simba", {"last_norm": "batch"}),
    ("crossq", {"last_norm": "batch"}),
    ("crossq", {"norm": "layer", "last_norm": "renorm"}),
]


def statistics(critic: Any) -> list[BatchNorms]:
    """The normalisations that gather statistics."""
    found = [layer for layer in critic.net.modules() if isinstance(layer, BatchNorms)]
    assert found
    return found


@pytest.mark.parametrize(("critic", "options"), BY_BATCH)
def test_each_update_moves_the_statistics_of_each_normalisation(critic: str, options: Any) -> None:
    """In front of the head as in a hidden layer, and those of the target with them."""
    agent = SAC(
        "gaussian", TinyEnv(), critic=critic, critic_options=options, policy_kwargs=TINY, **FAST
    ).learn(19)
    for layer in statistics(agent.critic):
        assert int(layer.steps) == agent._n_updates == 3
        assert bool((layer.running_mean != 0.0).any()) and bool((layer.running_var != 1.0).all())
    for own, other in zip(statistics(agent.critic), statistics(agent.critic_target), strict=True):
        assert torch.equal(own.running_mean, other.running_mean)


@pytest.mark.parametrize(("critic", "options"), BY_BATCH)
def test_unmodified_agents_are_refused_for_each_of_them(critic: str, options: Any) -> None:
    """The line names the argument that asks for statistics."""
    kwargs = {**TINY, "density": "gaussian", "critic": critic, "critic_options": options}
    given = f"critic: got '{critic}'" if critic == "crossq" else "critic_options: got {"
    with pytest.raises(ValueError, match=f"{given}.* in SAC of stable_baselines3"):
        stable_baselines3.SAC(SACPolicy, TinyEnv(), policy_kwargs=kwargs, **FAST)


def test_a_bias_stays_where_no_batch_takes_it_away() -> None:
    """Hidden layers lose it by their own normalisation, not by that of the head."""
    for norm, biased in (("none", True), ("layer", True), ("batch", False)):
        options = {"norm": norm, "last_norm": "batch"}
        agent = SAC("gaussian", TinyEnv(), critic_options=options, policy_kwargs=TINY)
        assert (agent.critic.net[0].bias is not None) == biased, norm


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"support": "x"}, "support: got 'x', expected a positive finite number"),
        ({"support": None}, "support: got None, expected a positive finite number"),
        ({"support": True}, "support: got True, expected a positive finite number"),
        ({"bins": "many"}, "bins: got 'many', expected 0 or a whole number from 2 to 10,000"),
        ({"bins": None}, "bins: got None, expected 0 or a whole number from 2 to 10,000"),
        ({"bins": False}, "bins: got False, expected 0 or a whole number from 2 to 10,000"),
        ({"target": "no"}, "target: got 'no', expected True or False"),
        ({"residual": "yes"}, "residual: got 'yes', expected True or False"),
        ({"unit_norms": "false"}, "unit_norms: got 'false', expected True or False"),
        ({"unit_weights": 1}, "unit_weights: got 1, expected True or False"),
        ({"input_norm": "no"}, "input_norm: got 'no', expected True or False"),
        ("layer", "critic_options: got 'layer', expected a dict, such as {'norm': 'layer'}"),
        (["layer"], "critic_options: got ['layer'], expected a dict, such as {'norm': 'layer'}"),
    ],
)
def test_a_part_of_another_kind_is_refused(options: Any, expected: str) -> None:
    """In one whole line."""
    with pytest.raises(ValueError) as caught:
        SAC("gaussian", TinyEnv(), critic_options=options)
    assert str(caught.value) == expected


def test_residual_blocks_have_widths() -> None:
    """One at least."""
    with pytest.raises(ValueError, match=r"net_arch: got \[\], expected .*one or more residual"):
        SAC(
            "gaussian", TinyEnv(), critic="simba", policy_kwargs={"net_arch": {"pi": [8], "qf": []}}
        )
