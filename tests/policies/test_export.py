"""Policies become graphs by SB3's recipes: traced, and exported, with their codes as constants."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.policies.common import DENSITIES, OBS, ac_policy, observations, sac_policy


class Deterministic(nn.Module):
    """SB3's wrapper for an export."""

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, observation: Tensor) -> Tensor:
        found = self.policy(observation, deterministic=True)
        return found[0] if isinstance(found, tuple) else found


@pytest.mark.parametrize("make", [sac_policy, ac_policy])
@pytest.mark.parametrize("density", DENSITIES)
def test_a_trace_answers_as_the_policy(density: str, make) -> None:
    """At other observations than those it was made with, and without any operator of Sobol's."""
    policy = make(density)
    policy.set_training_mode(False)
    module = Deterministic(policy)
    one, other = observations(OBS, 2).split(1)
    traced = torch.jit.trace(module, one, check_trace=False)
    torch.testing.assert_close(traced(other), module(other), rtol=1e-5, atol=1e-6)
    graph = str(traced.inlined_graph)
    assert "sobol" not in graph and "ndtri" not in graph


@pytest.mark.parametrize("make", [sac_policy, ac_policy])
@pytest.mark.parametrize("density", ["gaussian", "mixture", "cvae"])
def test_an_exported_program_answers_as_the_policy(density: str, make) -> None:
    policy = make(density)
    policy.set_training_mode(False)
    module = Deterministic(policy)
    one, other = observations(OBS, 2).split(1)
    program = torch.export.export(module, (one,), strict=False).module()
    torch.testing.assert_close(program(other), module(other), rtol=1e-5, atol=1e-6)
