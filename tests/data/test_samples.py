"""The small recordings kept here: a seed makes them again, and a policy learns from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vaerl.agents import BC
from vaerl.data import collect, load_demonstrations

SAMPLES = Path(__file__).parent / "samples"


@pytest.mark.parametrize(
    ("name", "env", "steps"),
    [("avoiding", "vaerl/Avoiding-v0", None), ("cube", "vaerl/CubePads-v0", 10)],
)
def test_a_seed_records_the_sample_again(name: str, env: str, steps: int | None) -> None:
    """Equal to rounding; of the cube's episodes the steps before anything is touched."""
    if name == "cube":
        pytest.importorskip("ogbench")
    kept = load_demonstrations(SAMPLES / name)
    again = collect(env, "expert", len(kept), seed=0)
    for old, new in zip(kept, again, strict=True):
        for part in ("observations", "actions"):
            before, now = getattr(old, part)[:steps], getattr(new, part)[:steps]
            np.testing.assert_allclose(now, before, rtol=1e-4, atol=1e-4)


def test_a_clone_of_the_sample_does_what_it_saw() -> None:
    """Four episodes fitted closely: the first action of each chunk is near the recorded one."""
    demonstrations = load_demonstrations(SAMPLES / "avoiding")
    agent = BC("cvae", data=demonstrations, seed=0, device="cpu", validation=0.0).learn(300)
    episode = demonstrations[0]
    action, _ = agent.predict(np.asarray(episode.observations)[0])
    spread = np.std(episode.actions)
    nearest = min(float(np.abs(action - e.actions[0]).max()) for e in demonstrations)
    assert nearest < spread, (action, spread)
