"""Experiments: one question, one folder, with the exact command and its table of results.

An experiment is imported when it is loaded, so that listing the names stays quick.

>>> experiment_names()[:3]
('captions', 'characters', 'cloning')
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vaerl.registry import Registry

#: Each is a function `run(out, preset=…, seed=…, …) -> Path`; its arguments are the options of
#: `vaerl experiment NAME`.
EXPERIMENTS = Registry(
    "experiment",
    "vaerl.experiments",
    {
        "captions": (
            "vaerl.experiments.captions.experiment:run",
            "images from captions, also of things never seen together",
        ),
        "characters": (
            "vaerl.experiments.characters.experiment:run",
            "handwritten characters, and new ones after a single example",
        ),
        "cloning": (
            "vaerl.experiments.cloning.experiment:run",
            "behaviour with many ways, cloned from demonstrations by one density after another",
        ),
        "curves": (
            "vaerl.experiments.curves.experiment:run",
            "SAC of vaerl and of Stable-Baselines3: learning curves",
        ),
        "density-suite": (
            "vaerl.experiments.density_suite.experiment:run",
            "how close each density comes to a known law",
        ),
        "demo": (
            "vaerl.experiments.demo.experiment:run",
            "a CVAE policy beside simpler ones, cloned and online, in minutes",
        ),
        "dmc": (
            "vaerl.experiments.dmc.experiment:run",
            "a model-based agent by head of its model on the Control Suite",
        ),
        "dynamics": (
            "vaerl.experiments.dynamics.experiment:run",
            "densities as dynamics models where several things can happen",
        ),
        "early-stop": (
            "vaerl.experiments.dynamics.stopping:run",
            "planning that stops when plans no longer improve: passes and regret",
        ),
        "finetuning": (
            "vaerl.experiments.finetuning.experiment:run",
            "reward improves a clone, and what keeps its ways",
        ),
        "gradients": (
            "vaerl.experiments.gradients.experiment:run",
            "estimators of the encoder's gradient: bias and noise",
        ),
        "improvement": (
            "vaerl.experiments.improvement.experiment:run",
            "improvement steps for a CVAE policy where one way of acting is best",
        ),
        "instructions": (
            "vaerl.experiments.instructions.experiment:run",
            "a policy that obeys instructions, also new combinations of words",
        ),
        "iwae-mnist": (
            "vaerl.experiments.iwae.experiment:run",
            "the importance-weighted autoencoder on MNIST",
        ),
        "kinematics": (
            "vaerl.experiments.kinematics.experiment:run",
            "how close a policy of an arm comes to the posterior, and what if its way is blocked",
        ),
        "knockout": (
            "vaerl.experiments.knockout.experiment:run",
            "what is left of a policy when the way that it prefers is blocked",
        ),
        "mbpo": (
            "vaerl.experiments.mbpo.experiment:run",
            "real steps that a learned model saves on MuJoCo",
        ),
        "mbpo-diagnosis": (
            "vaerl.experiments.mbpo.diagnosis:run",
            "errors of MBPO's model by horizon, and bias of its critics",
        ),
        "modes": (
            "vaerl.experiments.modes.experiment:run",
            "which policies keep every mode of a task",
        ),
        "mujoco": (
            "vaerl.experiments.mujoco.experiment:run",
            "a CVAE policy beside the Gaussian in SAC on MuJoCo",
        ),
        "offline": (
            "vaerl.experiments.offline.experiment:run",
            "offline reinforcement learning from noisy play, by density and agent",
        ),
        "returns": (
            "vaerl.experiments.returns.experiment:run",
            "return and cost on MuJoCo by critic, switches and density",
        ),
        "risk": (
            "vaerl.experiments.risk.experiment:run",
            "plans for the mean and for the worst outcomes, in learned models and the true one",
        ),
        "temperature": (
            "vaerl.experiments.temperature.experiment:run",
            "return against the temperature where rewards are not shaped, by density",
        ),
    },
)

__all__ = ["EXPERIMENTS", "experiment_names", "load_experiment"]


def experiment_names() -> tuple[str, ...]:
    """Names of all experiments."""
    return EXPERIMENTS.names()


def load_experiment(name: str) -> Callable[..., Path]:
    """Import the experiment of that name and give its function `run(out, preset, seed, …) -> Path`.

    Raises ValueError, naming the nearest match, for an unknown name.

    >>> load_experiment("density-sweet")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: experiment: got 'density-sweet', did you mean 'density-suite'? ...
    """
    return EXPERIMENTS.load(name)
