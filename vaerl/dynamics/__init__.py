"""Densities as dynamics models P(s' | s, a): data, ensembles, fitting, scores, propagation."""

from vaerl.dynamics.data import Transitions, replay_transitions
from vaerl.dynamics.fitting import FitOptions, FitReport, fit
from vaerl.dynamics.model import DynamicsModel
from vaerl.dynamics.propagation import PROPAGATIONS, Propagation
from vaerl.dynamics.scores import SCORES, Spread, score, spread

__all__ = [
    "PROPAGATIONS",
    "SCORES",
    "DynamicsModel",
    "FitOptions",
    "FitReport",
    "Propagation",
    "Spread",
    "Transitions",
    "fit",
    "replay_transitions",
    "score",
    "spread",
]
