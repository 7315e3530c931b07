"""Densities as dynamics models P(s' | s, a): data, ensembles, fitting, scores, diagnostics."""

from vaerl.dynamics.data import Transitions, replay_transitions
from vaerl.dynamics.diagnostics import (
    ModeScores,
    calibration_error,
    coverage,
    energy_distance,
    log_density,
    mode_scores,
    pit,
    predict,
    roll_out,
)
from vaerl.dynamics.ensemble import PROPAGATIONS
from vaerl.dynamics.fitting import FitOptions, FitReport, fit
from vaerl.dynamics.horizons import HorizonErrors, horizon_errors
from vaerl.dynamics.model import DynamicsModel
from vaerl.dynamics.rollout import Rollout
from vaerl.dynamics.scores import SCORES, Spread, deviation, score, spread

__all__ = [
    "PROPAGATIONS",
    "SCORES",
    "DynamicsModel",
    "FitOptions",
    "FitReport",
    "HorizonErrors",
    "ModeScores",
    "Rollout",
    "Spread",
    "Transitions",
    "calibration_error",
    "coverage",
    "deviation",
    "energy_distance",
    "fit",
    "horizon_errors",
    "log_density",
    "mode_scores",
    "pit",
    "predict",
    "replay_transitions",
    "roll_out",
    "score",
    "spread",
]
