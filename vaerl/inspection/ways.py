"""Roll-outs with a latent that is kept: which way does it choose?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vaerl.envs import metrics
from vaerl.envs.making import declared
from vaerl.inspection.subject import Array, Subject
from vaerl.runs.evaluate import EvalResult, evaluate
from vaerl.runs.monitor import watched

KEPT = 8
"""Latents that are kept, besides zero."""
COPIES = 10


@dataclass(frozen=True)
class Way:
    """Episodes with z handled in one way."""

    name: str
    result: EvalResult

    @property
    def solved(self) -> float:
        """Share of the episodes that reach a goal."""
        return float((self.result.goals >= 0).mean())

    @property
    def commonest(self) -> tuple[int, float]:
        """The goal reached most often, and its share of all episodes; (−1, 0) if none is."""
        reached = self.result.goals[self.result.goals >= 0]
        if not len(reached):
            return -1, 0.0
        counts = np.bincount(reached)
        return int(counts.argmax()), float(counts.max() / len(self.result.goals))

    @property
    def entropy(self) -> float:
        """Entropy of the goals reached, 1 if all are equally frequent."""
        return metrics.mode_entropy(self.result.goals, self.result.num_modes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        goal, share = self.commonest
        goals = self.result.goals
        return {
            "z": self.name,
            "episodes": len(goals),
            "reach_a_goal": self.solved,
            "goals_reached": len(np.unique(goals[goals >= 0])),
            "commonest_goal": goal,
            "share_of_commonest": share,
            "mode_entropy": self.entropy,
        }


def has_map(env_id: str, env_options: Mapping[str, Any]) -> bool:
    """Whether an environment declares a map with goals."""
    with watched(env_id, env_options) as env:
        own = declared(env)
        return hasattr(own, "map_artist") and bool(getattr(own, "num_modes", 0))


def act_with_kept(
    subject: Subject,
    env_id: str,
    env_options: Mapping[str, Any],
    *,
    kept: int = KEPT,
    episodes: int,
    seed: int,
) -> tuple[Way, ...]:
    """Episodes with z drawn anew, zero, and kept at each of `kept` draws from the prior."""
    cases: dict[str, Array | None] = {"redrawn": None}
    if subject.latents:
        cases["zero"] = subject.zero
        cases |= {f"kept {i + 1}": code for i, code in enumerate(subject.codes(kept, seed))}
    return tuple(
        Way(
            name,
            evaluate(
                subject.predictor(code, seed),
                env_id,
                episodes=episodes,
                seed=seed,
                env_options=env_options,
                copies=min(COPIES, episodes),
            ),
        )
        for name, code in cases.items()
    )
