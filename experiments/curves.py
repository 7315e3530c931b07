"""Does vaerl's SAC learn as stable-baselines3's does, and in bfloat16 as in float32?

Protocol. {Pendulum-v1, HalfCheetah-v5} × learners × seeds, all with stable-baselines3's defaults
and a Gaussian policy, one torch thread a run: `stable_baselines3.SAC`, `vaerl.agents.SAC`, and the
same with `matmul_precision="bf16"`. A run's curve is the mean return of the training episodes that
end in each tenth of it; reported are the means over the whole run and over its last fifth, and of
20 episodes with the best action after it. For files see `comparison`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from stable_baselines3 import SAC as SB3SAC

from vaerl.agents import SAC
from vaerl.experiments.comparison import Comparison, compare

CURVES = Comparison(
    name="curves",
    title="Learning curves of SAC with a Gaussian policy",
    caption="stable-baselines3's defaults for all.",
    learners={
        "SB3": partial(SB3SAC, "MlpPolicy"),
        "vaerl": partial(SAC, "gaussian"),
        "vaerl bf16": partial(SAC, "gaussian", matmul_precision="bf16"),
    },
    steps={"Pendulum-v1": 8_000, "HalfCheetah-v5": 20_000},
)


def run(
    out: Path,
    preset: str = "full",
    envs: list[str] | None = None,
    learners: list[str] | None = None,
    seeds: list[int] | None = None,
    jobs: int = 2,
) -> Path:
    """Train what is not trained, print the table, draw the curves; give results.json.

    Args:
        out: folder of the results; finished trainings found there are reused.
        preset: "full", or "debug", which runs Pendulum for two episodes.
        envs: Pendulum-v1, HalfCheetah-v5; both if None ("debug": the first).
        learners: SB3, vaerl, "vaerl bf16"; all if None.
        seeds: 0, 1, 2 if None ("debug": 0).
        jobs: processes, each with one torch thread.
    """
    return compare(CURVES, out, preset, envs, learners, seeds, jobs)
