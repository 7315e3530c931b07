"""Does vaerl's SAC learn as stable-baselines3's does, and natively as in torch?

Protocol. {Pendulum-v1, HalfCheetah-v5} × learners × seeds, all with stable-baselines3's defaults,
one thread a run: `stable_baselines3.SAC` and `vaerl.agents.SAC` with a Gaussian policy, the latter
also with a CVAE, each with the native update, with factors of its products rounded to bfloat16, and
in torch. A run's
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
    title="Learning curves of SAC",
    caption="stable-baselines3's defaults for all.",
    learners={
        "SB3": partial(SB3SAC, "MlpPolicy"),
        "vaerl": partial(SAC, "gaussian"),
        "vaerl bf16": partial(SAC, "gaussian", matmul_precision="bf16"),
        "vaerl in torch": partial(SAC, "gaussian", native=False),
        "cvae": partial(SAC, "cvae"),
        "cvae bf16": partial(SAC, "cvae", matmul_precision="bf16"),
        "cvae in torch": partial(SAC, "cvae", native=False),
    },
    steps={"Pendulum-v1": 8_000, "HalfCheetah-v5": 20_000},
)

run = as_command(CURVES)
