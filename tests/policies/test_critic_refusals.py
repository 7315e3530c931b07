"""Parts of critics that are refused: where they are wrong, idle, or an agent cannot use them."""

from __future__ import annotations

from typing import Any

import pytest
import stable_baselines3
import torch

from tests.policies.common import TinyEnv
from tests.policies.test_critic_net import FAST, TINY
from vaerl.agents import SAC
from vaerl.policies import SACPolicy
from vaerl.policies.critic_net import critic_parts


@pytest.mark.parametrize("critic", ["crossq", "xqc", "flash"])
def test_unmodified_agents_are_refused_where_nothing_gathers_statistics(critic: str) -> None:
    """In one line, when they are built."""
    kwargs = {**TINY, "density": "gaussian", "critic": critic}
    with pytest.raises(ValueError, match=rf"critic: got '{critic}' in SAC of stable_baselines3"):
        stable_baselines3.SAC(SACPolicy, TinyEnv(), policy_kwargs=kwargs, **FAST)
    kwargs = {**TINY, "normalize_observations": True}
    with pytest.raises(ValueError, match=r"normalize_observations: got True in SAC of stable_base"):
        stable_baselines3.SAC(SACPolicy, TinyEnv(), policy_kwargs=kwargs, **FAST)


@pytest.mark.parametrize(
    ("options", "does"),
    [
        ({"norm": "layer", "unit_weights": True}, "does not scale weights"),
        ({"norm": "layer", "unit_norms": True}, "does not scale weights"),
        ({"bins": 11}, "regresses the mean"),
    ],
)
def test_unmodified_agents_are_refused_what_their_update_does_not_know(
    options: dict[str, Any], does: str
) -> None:
    kwargs = {**TINY, "density": "gaussian", "critic_options": options}
    name = list(options)[-1]
    with pytest.raises(ValueError, match=rf"critic_options\['{name}'\]: got .* which {does}"):
        stable_baselines3.SAC(SACPolicy, TinyEnv(), policy_kwargs=kwargs, **FAST)
    SAC(SACPolicy, TinyEnv(), policy_kwargs=kwargs, **FAST)


def test_simba_works_in_unmodified_sac() -> None:
    """And ends where ours does."""
    kwargs = {**TINY, "density": "gaussian", "critic": "simba"}
    agents = [
        cls(SACPolicy, TinyEnv(), policy_kwargs=kwargs, **FAST).learn(24)
        for cls in (SAC, stable_baselines3.SAC)
    ]
    ours, theirs = (agent.policy.state_dict() for agent in agents)
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-4, atol=1e-5, msg=name)


def test_parts_are_exchanged_and_checked() -> None:
    """One line each."""
    assert critic_parts("sac", {"norm": "layer"}).norm == "layer"
    assert critic_parts("sac").plain and not critic_parts("xqc").plain
    with pytest.raises(ValueError, match="critic: got 'crosq', did you mean 'crossq'"):
        SAC("gaussian", TinyEnv(), critic="crosq")
    for options, expected in (
        ({"norm": "group"}, "norm: got 'group', expected one of none, layer"),
        ({"nrom": "layer"}, "critic_options: got 'nrom', did you mean 'norm'"),
        ({"bins": 1}, "bins: got 1"),
        ({"bins": 10**9}, "bins: got 1000000000, expected 0 or a whole number from 2 to 10,000"),
        ({"support": 0.0}, "support: got 0.0"),
        ({"support": 50.0}, "got 50.0, which has no effect without 'bins'"),
        ({"unit_norms": True}, "got True, which has no effect without 'norm'"),
        ({"order": "before"}, "got 'before', which has no effect without 'norm'"),
        ({"input_norm": True}, "input_norm: got True with norm 'none'"),
    ):
        with pytest.raises(ValueError, match=expected):
            SAC("gaussian", TinyEnv(), critic_options=options)
    with pytest.raises(ValueError, match=r"net_arch: got \[8, 4\], expected equal widths"):
        SAC("gaussian", TinyEnv(), critic="flash", policy_kwargs={"net_arch": [8, 4]})
