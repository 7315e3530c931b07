"""A profile counts every moment once, to the part that it belongs to."""

from __future__ import annotations

import gymnasium
import pytest
from torch import nn

from vaerl.agents import PPO
from vaerl.lab.bench import profile as module
from vaerl.lab.bench.groups import GAUSSIAN
from vaerl.lab.bench.parts import Parts, Place
from vaerl.lab.bench.profile import (
    PPO_WHOLE,
    REST,
    profile,
    profile_ppo,
    profile_ppo_record,
    profile_record,
)


class Work(nn.Module):
    """Works for 1 second itself, 10 in `forward`, which takes 100 more inside."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def inside(self) -> None:
        self.now += 100.0

    def forward(self) -> None:
        self.now += 10.0
        self.inside()

    def whole(self) -> None:
        self.now += 1.0
        self()
        self.inside()


@pytest.mark.parametrize(
    ("splits", "expected"),
    [(True, [1.0, 10.0, 200.0]), (False, [1.0, 110.0, 100.0])],
)
def test_a_part_inside_another(splits: bool, expected: list[float]) -> None:
    """It counts apart only where the outer one splits; the module itself is not touched."""
    work, other = Work(), Work()
    parts = Parts(lambda: work.now, ["whole", "forward", "inside"])
    places = [
        Place(work, "inside", "inside"),
        Place(work, "forward", lambda: "forward", splits),
        Place(work, "whole", "whole", splits=True),
    ]
    before = dict(vars(Work))
    with parts.at(places):
        work.whole()
        other.whole()
        assert set(vars(work)) == set(vars(other))
    work.whole()
    assert list(parts.totals.values()) == expected
    assert dict(vars(Work)) == before and work.now == 2 * other.now == 422.0


def test_a_profile_of_sac_counts_the_arithmetic() -> None:
    parts = profile(GAUSSIAN, updates=3)
    whole = parts.pop("whole update")
    for key, total in whole.items():
        assert sum(part[key] for part in parts.values()) == pytest.approx(total), key
    rows, width, seen = 256, 256, 17 + 6
    forward = 2e-9 * rows * 2 * (seen * width + width * width + width)  # both critics
    assert parts["target critics"]["gflop"] == pytest.approx(forward)
    assert parts["critics: loss and gradient"]["gflop"] == pytest.approx(
        forward + 2e-9 * rows * 2 * (seen * width + 2 * width * width + 2 * width)
    )
    assert parts[REST]["gflop"] > 0.05 and parts["actor at s'"]["operations"] > 5
    assert all(part["ms"] > 0 for part in parts.values())
    table = profile_record({**parts, "whole update": whole}, GAUSSIAN, "vaerl bench --profile")
    assert table["rows"][-1][:3] == ["whole update", round(whole["ms"], 3), 100.0]
    assert table["versions"]["torch"] and table["device"] == "cpu"


class Slow(gymnasium.Wrapper):
    """Every step takes a second of `clock`."""

    now = 0.0

    def step(self, action):
        self.now += 1.0
        return self.env.step(action)


def test_a_profile_of_ppo_knows_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds of the environment, the optimiser and the sleep phase land where they belong."""
    env = Slow(gymnasium.make("Pendulum-v1"))
    options = {"n_steps": 32, "batch_size": 16, "n_epochs": 2}
    agent = PPO("cvae", env, policy_kwargs={"num_codes": 4}, seed=0, device="cpu", **options)

    def slower(owner: object, name: str, seconds: float) -> None:
        method = getattr(owner, name)

        def run(*args: object, **kwargs: object) -> object:
            env.now += seconds
            return method(*args, **kwargs)

        setattr(owner, name, run)

    slower(agent.policy.optimizer, "step", 10.0)
    slower(agent, "_sleep", 1000.0)

    def clock() -> float:
        env.now += 1e-6  # so that a part that is reached at all takes some time
        return env.now

    monkeypatch.setattr(module, "make_ppo", lambda name, device: agent)
    monkeypatch.setattr(module, "PPO_STEPS", 32)
    parts = profile_ppo("vaerl cvae, 32 codes", rollouts=2, clock=clock)
    ms = {part: row["ms"] for part, row in parts.items()}
    whole = ms.pop(PPO_WHOLE)
    known = {
        "rollout: environment": 32e3,
        "update: optimiser": 2 * 2 * 10e3,
        "update: recognition network": 1000e3,
    }
    for part, took in ms.items():
        assert took == pytest.approx(known.get(part, 0.5), abs=0.6) and took > 0.0, part
    assert whole == pytest.approx(sum(ms.values())) and set(known) < set(ms)
    table = profile_ppo_record(parts, "vaerl cvae, 32 codes", "vaerl bench --profile")
    assert table["rows"][-1][::2] == [PPO_WHOLE, 100.0] and table["versions"]["sb3"]
