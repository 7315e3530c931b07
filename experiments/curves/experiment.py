"""Does vaerl's SAC learn as stable-baselines3's does?

Protocol. {Pendulum-v1, HalfCheetah-v5} × learners × seeds, all with stable-baselines3's defaults
and a Gaussian policy, one thread a run: `stable_baselines3.SAC` and `vaerl.agents.SAC`. A run's
curve is the mean return of the training episodes that end in each tenth of it; reported are the
means over the whole run and over its last fifth, and of 20 episodes with the best action after it.
For files see `comparison`.
"""

from __future__ import annotations

from functools import partial

from stable_baselines3 import SAC as SB3SAC

from vaerl.agents import SAC
from vaerl.lab.comparison import Comparison, as_command

CURVES = Comparison(
    name="curves",
    title="Learning curves of SAC with a Gaussian policy",
    caption="stable-baselines3's defaults for all.",
    learners={
        "SB3": partial(SB3SAC, "MlpPolicy"),
        "vaerl": partial(SAC, "gaussian"),
    },
    steps={"Pendulum-v1": 8_000, "HalfCheetah-v5": 20_000},
)

run = as_command(CURVES)
