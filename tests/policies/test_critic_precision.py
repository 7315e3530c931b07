"""Critics whose wide layers multiply in bfloat16."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tests.policies.test_critic_net import DEEP, policy, transition
from vaerl.agents.critics import Critics


@pytest.mark.parametrize("name", DEEP)
def test_products_in_bfloat16_change_values_by_their_rounding(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values and gradients of wide layers change a little, of narrow ones not at all."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    for width, changes in ((64, True), (8, False)):
        found = []
        for precision in ("float32", "bf16"):
            torch.manual_seed(0)
            made = policy(name, net_arch={"pi": [8], "qf": [width, width]})
            critics = Critics(made.critic, made.critic_target, precision)
            assert critics.bfloat16 == (changes and precision == "bf16")
            critics.regress(transition())
            values = critics.pair(transition())[0].detach()
            slopes = torch.cat([p.grad.flatten() for p in made.critic.parameters()])
            found.append((values, slopes))
        (values, slopes), (others, other_slopes) = found
        assert torch.equal(values, others) != changes
        assert (values - others).norm() <= 0.05 * values.norm()
        assert F.cosine_similarity(slopes, other_slopes, dim=0) > 0.98


def test_bfloat16_needs_a_processor_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {})
    made = policy("crossq")
    assert not Critics(made.critic, made.critic_target, "bf16").bfloat16
