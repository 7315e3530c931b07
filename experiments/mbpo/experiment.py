"""Does a learned model save real steps on MuJoCo?

Protocol. {Hopper-v5, HalfCheetah-v5}, 20,000 real steps × learners × seeds, one thread a run. All
have a Gaussian policy, two layers of 128, batches of 128 and the learning rate that worked best for
SAC on a held-out tuning seed. `vaerl.agents.SAC` takes one update a step, or as many as MBPO, from
step 400 on. `vaerl.agents.MBPO` learns changes and reward with ensembles of five from step 1,000 on
and knows when episodes end; half of its batches is real. Learners "with switches" have normalised
observations, scaled rewards and little entropy (`vaerl.experiments.returns`), against critics that
overestimate; one "and bonus" is paid for going where its model does not know the outcome. Scores
as in `vaerl.lab.comparison`, tuning in results/tuning.csv.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from vaerl.agents import MBPO, SAC
from vaerl.experiments.returns.rows import SWITCHES
from vaerl.lab.comparison import Comparison, as_command

UPDATES = 4  # a real step
BONUS = 1.0  # the model's deviation in imagined rewards
MBPOS = (
    "MBPO gaussian",
    "MBPO cvae",
    "MBPO gaussian with switches",
    "MBPO gaussian with switches and bonus",
)
_POLICY: dict[str, Any] = {
    "batch_size": 128,
    "policy_kwargs": {"net_arch": [128, 128]},
}
_MODEL: dict[str, Any] = {
    "gradient_steps": UPDATES,
    "members": 5,
    "termination": "known",
    "learning_starts": 1000,  # a model of fewer steps misleads
    "model_train_freq": 1000,
    "fit_kwargs": {"steps": 1000, "patience": 10},
    "rollout_batch_size": 50_000,
    "rollouts_kept": 1,
    "real_share": 0.5,
}
_SHORT: dict[str, Any] = {
    "learning_starts": 400,
    "fit_kwargs": {"steps": 20},
    "rollout_batch_size": 500,
}
HIDDEN: dict[str, dict[str, Any]] = {
    "gaussian": {"hidden": [200, 200]},
    "cvae": {"hidden": 128, "context_hidden": [128, 128]},
}


_SWITCHES = {
    name: value
    for name, value in SWITCHES.items()
    if name not in ("learning_rate", "learning_starts")
}


def _model_based(density: str, **more: Any) -> partial[MBPO]:
    wide: dict[str, Any] = {"dynamics": density, "dynamics_kwargs": HIDDEN[density]}
    return partial(MBPO, "gaussian", **wide, **_POLICY, **_MODEL, **more)


def _as_often(**more: Any) -> partial[SAC]:
    often: dict[str, Any] = {"learning_starts": 400, "gradient_steps": UPDATES}
    return partial(SAC, "gaussian", **_POLICY, **often, **more)


MODEL_BASED = Comparison(
    name="mbpo",
    title="MBPO beside SAC at the same real steps",
    caption="Half of MBPO's batches is real.",
    learners={
        "SAC": partial(SAC, "gaussian", **_POLICY, learning_starts=400),
        f"SAC {UPDATES} updates": _as_often(),
        f"SAC {UPDATES} updates with switches": _as_often(**_SWITCHES),
        "MBPO gaussian": _model_based("gaussian"),
        "MBPO cvae": _model_based("cvae"),
        "MBPO gaussian with switches": _model_based("gaussian", **_SWITCHES),
        "MBPO gaussian with switches and bonus": _model_based(
            "gaussian", **_SWITCHES, exploration_bonus=BONUS
        ),
    },
    steps={"Hopper-v5": 20_000, "HalfCheetah-v5": 20_000},
    settings={
        "Hopper-v5": {"learning_rate": 3e-4},
        "HalfCheetah-v5": {"learning_rate": 1e-3},
    },
    debug=dict.fromkeys(MBPOS, _SHORT),
)

run = as_command(MODEL_BASED)
