"""The rows of the table: what is fitted, and how it acts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vaerl.agents.bc import BC


@dataclass(frozen=True)
class Row:
    """One way to clone.

    Args:
        density: name; "" for the replay of neighbours.
        options: of the density.
        pace: updates for one of the cvae, so that every row fits for about the same CPU time.
        latent_at_zero: act with the latent at zero instead of a drawn one.
        has_likelihood: whether a log-density is known.
    """

    density: str
    options: Mapping[str, Any] = field(default_factory=dict)
    pace: float = 1.0
    latent_at_zero: bool = False
    has_likelihood: bool = True


ROWS: Mapping[str, Row] = {
    "replay": Row("", has_likelihood=False),
    "gaussian": Row("gaussian", pace=2.0),
    "mixture-8": Row("mixture", {"components": 8}, pace=2.0),
    "mixture-16": Row("mixture", {"components": 16}, pace=1.65),
    "mixture-32": Row("mixture", {"components": 32}, pace=1.1),
    "coupling-flow": Row("flow", pace=1.25),
    "act-z0": Row("cvae", {"prior": "standard", "objective": "elbo", "k": 1}, latent_at_zero=True),
    "flow-matching": Row("flow-matching", pace=1.4, has_likelihood=False),
    "diffusion": Row("diffusion", pace=1.4, has_likelihood=False),
    "cvae": Row("cvae"),
    "cvae-L2": Row("cvae", {"latent_dims": (4, 4)}, pace=0.55),
}


class AtZero:
    """A policy whose latent is zero at every decision, as published for action chunking (ACT)."""

    def __init__(self, agent: BC) -> None:
        self.agent = agent
        self.codes = np.zeros(agent.policy.density.code_dim, np.float32)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None
    ) -> tuple[np.ndarray, Any]:
        """As `BC.predict`."""
        return self.agent.predict(observation, state, episode_start, codes=self.codes)
