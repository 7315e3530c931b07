"""Which improvement step for a CVAE policy where one way of acting is best?

Protocol. {Hopper-v5, HalfCheetah-v5}, 20,000 steps × learners × seeds, one thread a run,
`vaerl.agents.SAC` with two layers of 128, batches of 128, learning rate 1e-3: a Gaussian, and a
CVAE with the step "reverse" and with "both". Scores as in `vaerl.lab.comparison`. The experiment
`modes` compares the steps where several ways are equally good.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from vaerl.agents import SAC
from vaerl.lab.comparison import Comparison, as_command

_COMMON: dict[str, Any] = {
    "batch_size": 128,
    "learning_rate": 1e-3,
    "learning_starts": 400,
    "policy_kwargs": {"net_arch": [128, 128]},
}

STEPS = Comparison(
    name="improvement",
    title="Improvement steps where one way is best",
    caption="Two layers of 128, batches of 128, learning rate 1e-3 for all.",
    learners={
        "gaussian": partial(SAC, "gaussian", **_COMMON),
        "cvae": partial(SAC, "cvae", **_COMMON),
        "cvae both": partial(SAC, "cvae", improvement="both", **_COMMON),
    },
    steps={"Hopper-v5": 20_000, "HalfCheetah-v5": 20_000},
)

run = as_command(STEPS)
