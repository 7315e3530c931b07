"""Experiments: one question, one module, with the exact command and its table of results.

Modules are imported when an experiment is loaded, so that listing the names stays quick.

>>> len(experiment_names()), experiment_names()[:3]
(12, ('captions', 'curves', 'density-suite'))
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from vaerl.names import check_name

#: name -> "module:function"; each function is called as function(out, preset=…, seed=…, …) -> Path
EXPERIMENTS: dict[str, str] = {
    "captions": "vaerl.experiments.captions.experiment:run",
    "curves": "vaerl.experiments.curves.experiment:run",
    "density-suite": "vaerl.experiments.density_suite.experiment:run",
    "demo": "vaerl.experiments.demo.experiment:run",
    "dynamics": "vaerl.experiments.dynamics.experiment:run",
    "gradients": "vaerl.experiments.gradients.experiment:run",
    "improvement": "vaerl.experiments.improvement.experiment:run",
    "instructions": "vaerl.experiments.instructions.experiment:run",
    "iwae-mnist": "vaerl.experiments.iwae.experiment:run",
    "mbpo": "vaerl.experiments.mbpo.experiment:run",
    "modes": "vaerl.experiments.modes.experiment:run",
    "mujoco": "vaerl.experiments.mujoco.experiment:run",
}

__all__ = ["EXPERIMENTS", "experiment_names", "load_experiment"]


def experiment_names() -> tuple[str, ...]:
    """Names of all experiments, in the order in which they were registered."""
    return tuple(EXPERIMENTS)


def load_experiment(name: str) -> Callable[..., Path]:
    """Import the experiment of that name and give its function `run(out, preset, seed, …) -> Path`.

    Raises ValueError, naming the nearest match, for an unknown name.

    >>> load_experiment("density-sweet")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: experiment 'density-sweet' is unknown; did you mean 'density-suite'? ...
    """
    check_name("experiment", name, EXPERIMENTS)
    module, _, function = EXPERIMENTS[name].partition(":")
    return getattr(import_module(module), function)
