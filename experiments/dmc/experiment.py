"""Is it the latent head or the weighting that helps a model-based agent?

WIMLE (2026) puts both into MBPO at once: a latent model fitted by IMLE, and imagined transitions
weighted by how far the model's members and latents agree. Here one MBPO has three heads of the
model × {weighted, unweighted}, and all else is the same.

Protocol. Tasks of the suite without action repeat × learners × seeds, one thread a run. The policy
is Gaussian; half of every batch is real, roll-outs have one step, as published for these tasks.
Critics have the switches of `vaerl.experiments.returns`. The generator of imle is that of cvae.
The reward of pendulum-swingup is rare: there the model regresses it and imagined ones have a bonus.
Curves and scores as in `vaerl.lab.comparison`; a training that was cut goes on from its last 2,000
steps.
"""

from __future__ import annotations

from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from vaerl.agents import MBPO
from vaerl.densities.options import check_choice, check_positive
from vaerl.disk import jsonio
from vaerl.experiments.returns.rows import SWITCHES
from vaerl.lab.comparison import Comparison
from vaerl.lab.table import quantity
from vaerl.names import check_name

TASKS = ("pendulum-swingup", "reacher-hard", "walker-run")
HEADS = ("gaussian", "cvae", "imle")
WEIGHTS = ("plain", "weighted")
REWARDS = ("learned", "regressed")
STEPS, WIDTH, UPDATES = 20_000, 128, 10
MEMBERS, FIT_UPDATES, EVERY = 5, 150, 1000
RARE: dict[str, Any] = {
    "reward": "regressed",
    "exploration_bonus": 1.0,
    "gamma": 0.995,
    "target_entropy": -2.0,
    "fit_kwargs": {"steps": 300},
}
"""What finds a rare reward that is hundreds of steps away, and keeps to it (results/tuning.csv)."""
_SHORT: dict[str, Any] = {
    "learning_starts": 200,
    "model_train_freq": 200,
    "fit_kwargs": {"steps": 5},
    "rollout_batch_size": 50,
}


def run(
    out: Path,
    preset: str = "full",
    tasks: list[str] | None = None,
    heads: list[str] | None = None,
    weights: list[str] | None = None,
    seeds: list[int] | None = None,
    steps: int = STEPS,
    updates: int = UPDATES,
    width: int = WIDTH,
    reward: str = "learned",
    jobs: int = 1,
    table: bool = False,
) -> Path:
    """Train what is not finished, print the table of all that is, draw the curves.

    Args:
        out: folder of the results; finished trainings found there are reused.
        preset: "full", or "debug", which runs in seconds.
        tasks: pendulum-swingup, reacher-hard and walker-run by default ("debug": the first).
        heads: of the model: gaussian, cvae, imle; all by default.
        weights: of imagined transitions: plain, weighted; both by default.
        seeds: 0, 1, 2 by default ("debug": 0).
        steps: of the environment, a run.
        updates: of critics and policy, a step.
        width: units of the layers of policy and critics, and transitions of a batch.
        reward: of the model: "learned" by likelihood, or "regressed"; that of pendulum-swingup is
            always regressed.
        jobs: processes, each with one thread.
        table: train nothing, only make the table again.
    """
    comparison = compare(
        tasks or TASKS[: 1 if preset == "debug" else None],
        [check_name("head", head, HEADS) for head in heads or HEADS],
        [check_name("weights", name, WEIGHTS) for name in weights or WEIGHTS],
        check_positive("steps", steps),
        check_positive("updates", updates),
        check_positive("width", width),
        check_choice("reward", reward, REWARDS),
        debug=preset == "debug",
    )
    given = {"tasks": tasks, "heads": heads, "weights": weights}
    more = {"steps": steps, "updates": updates, "width": width, "reward": reward}
    return comparison.compare(run, out, preset, None, None, seeds, jobs, table, **given, **more)


def compare(
    tasks: Any,
    heads: Any,
    weights: Any,
    steps: int,
    updates: int,
    width: int,
    reward: str = "learned",
    debug: bool = False,
) -> Comparison:
    """The comparison of these heads and weights."""
    names = {f"{head} {kind}": (head, kind) for head in heads for kind in weights}
    learners = {
        name: _learner(head, kind == "weighted", updates, width)
        for name, (head, kind) in names.items()
    }
    fits, every = FIT_UPDATES, EVERY
    if {*tasks} == {"pendulum-swingup"}:
        fits = RARE["fit_kwargs"]["steps"]
    if debug:
        fits, every = _SHORT["fit_kwargs"]["steps"], _SHORT["model_train_freq"]
    text = resources.files(__package__).joinpath("published.json").read_bytes()
    returns = jsonio.loads(text, "published.json")["returns"]
    envs = {task: f"dmc/{check_name('task', task, TASKS)}-v0" for task in tasks}
    settings = dict.fromkeys(envs.values(), {} if reward == "learned" else {"reward": reward})
    return Comparison(
        name="dmc",
        title="MBPO on the Control Suite by head of the model, weighted or not",
        caption=(
            f"{quantity(updates, 'update')} a step with batches of {width}, half of them imagined; "
            f"policy and critics of two layers of {width}; {MEMBERS} members, {fits} updates of "
            f"the model each {every:,} steps. WIMLE: 20 updates a step, half of them imagined, "
            "layers of 512, 7 members, quantile critics, 5 episodes of each of 10 seeds."
        ),
        learners=learners,
        steps=dict.fromkeys(envs.values(), steps),
        settings={**settings, "dmc/pendulum-swingup-v0": RARE},
        debug=dict.fromkeys(learners, _SHORT),
        notes=_notes([*tasks], reward, debug),
        episodes=10,
        published=("WIMLE", {f"dmc/{task}-v0": own for task, own in returns.items()}),
        panel=_head,
    )


def _head(learner: str) -> str:
    """The head of a learner's model."""
    return learner.split()[0]


def _notes(tasks: list[str], reward: str, debug: bool) -> tuple[str, ...]:
    fit = "" if debug else f", a fit has {RARE['fit_kwargs']['steps']} updates"
    rare = (
        "pendulum-swingup: the reward is regressed, imagined rewards have "
        f"{RARE['exploration_bonus']:g} times the model's deviation as a bonus{fit}, the "
        f"discount is {RARE['gamma']} and the target entropy {RARE['target_entropy']:g}."
    )
    others = [task for task in tasks if task != "pendulum-swingup"] if reward != "learned" else []
    own = [rare] if "pendulum-swingup" in tasks else []
    return (*own, *(f"{task}: the reward is {reward}." for task in others))


def _learner(head: str, weighted: bool, updates: int, width: int) -> partial[MBPO]:
    hidden: dict[str, Any] = {"hidden": 64, "context_hidden": [64, 64]}
    return partial(
        MBPO,
        "gaussian",
        dynamics=head,
        dynamics_kwargs={"hidden": [128, 128]} if head == "gaussian" else hidden,
        weight_by_uncertainty=weighted,
        members=MEMBERS,
        termination="never",
        model_train_freq=EVERY,
        fit_kwargs={"steps": FIT_UPDATES},
        rollout_batch_size=10_000,
        rollouts_kept=1,
        real_share=0.5,
        gradient_steps=updates,
        batch_size=width,
        policy_kwargs={"net_arch": [width, width]},
        **{**SWITCHES, "learning_starts": EVERY},
    )
