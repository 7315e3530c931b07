"""A training that was interrupted ends as one that was not."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vaerl.lab.trainer import Trainer


def make(rounds: int = 6, fail_at: int = -1, interrupt_at: int = -1, rate: float = 0.1) -> Trainer:
    """A line fitted to noisy points; round `fail_at` has no loss, `interrupt_at` a SIGTERM."""
    torch.manual_seed(0)
    line = nn.Linear(2, 1)
    optimiser = torch.optim.Adam(line.parameters(), rate)

    def step(generator: torch.Generator) -> Tensor:
        if trainer.done == interrupt_at:
            os.kill(os.getpid(), signal.SIGTERM)
        x = torch.randn(8, 2, generator=generator)
        loss = (line(x) - x.sum(-1, keepdim=True)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.detach() * (math.nan if trainer.done == fail_at else 1.0)

    trainer = Trainer(line, (optimiser,), step, rounds, {"rate": rate, "note": 0}, free=("note",))
    return trainer


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    """After a SIGTERM the state is saved; parameters, moments and losses go on from there."""
    whole, first, second = make(), make(interrupt_at=2), make()
    whole.run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        first.run(tmp_path / "state")
    assert first.done == 3
    ticks: list[float] = []
    second.run(tmp_path / "state", ticks.append)
    assert ticks == [4, 5, 6] and second.losses == whole.losses
    for a, b in zip(whole.module.parameters(), second.module.parameters(), strict=True):
        assert torch.equal(a, b) and not a.requires_grad
    again = make()
    again.run(tmp_path / "state")
    assert again.losses == whole.losses, "a finished training is loaded"


def test_rates_rise_and_fall() -> None:
    trainer = make()
    rates = []
    for share in (0.0, 0.01, 0.02, 0.5, 1.0):
        trainer.set_rates(share)
        rates.append(trainer.optimisers[0].param_groups[0]["lr"])
    assert rates[0] == pytest.approx(0.005) and rates[1] < rates[2] > rates[3]
    assert rates[3] == pytest.approx(0.05) and rates[4] == pytest.approx(0.0, abs=1e-12)


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="loss: got nan in round 2"):
        make(fail_at=1).run(tmp_path / "state")


def test_a_state_of_other_settings_is_refused(tmp_path: Path) -> None:
    """But for settings that are free."""
    make().run(tmp_path / "state")
    with pytest.raises(ValueError, match=r"made with other settings \(rate: got 0\.1, expected"):
        make(rate=0.2).restore(tmp_path / "state")
    other = make()
    other.settings["note"] = 1
    assert other.restore(tmp_path / "state") and other.done == 6
    (tmp_path / "state").write_text("{}")
    with pytest.raises(ValueError, match="not the state of a training"):
        make().restore(tmp_path / "state")
