"""How close do the densities come to a known truth, under one budget and one protocol?

Protocol. Every model sees fresh draws of the target at every step (no fixed training set), so that
the score measures model and optimiser, not over-fitting. All models: the same number of Adam steps
and batch size, cosine learning rate, one thread, events standardised by the mean and scale of
20,000 training draws. Reported is the mean over held-out test points, drawn under another seed, of

    gap = log p_true(x|c) − log p_model(x|c)        [nats; NLL minus the true entropy, 0 is perfect]

on common points, so that the noise of the entropy cancels. A latent-variable model is scored by its
lower bound L_K: its printed gap is an upper bound on its true one. Settings were chosen on
`VALIDATION_TARGETS`, laws with other parameters than those that judge.

The arms are inverse kinematics (`arms`): a posture that reaches a seen place. The set of postures
has n − 2 free directions for n joints, and is 0.02 thin in the other two. Also reported there, as
in Kruse et al. 2021: the distance of the tip of a draw from the place that was seen, and the
mismatch (squared MMD) between draws and exact ones.

Files: out/cells/ (result and parameters of every fit), out/results.json (the table), out/figures/
(samples beside the truth, one picture a target).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any

from vaerl.experiments.density_suite.figures import draw_figures
from vaerl.experiments.density_suite.fit import Fit, Model, measure
from vaerl.experiments.density_suite.targets import target_names
from vaerl.lab.experiment import Experiment, Results
from vaerl.lab.stats import interval
from vaerl.lab.table import command_line
from vaerl.names import check_name


@dataclass(frozen=True)
class Preset:
    """The budget of a run, the same for every model."""

    steps: int
    batch_size: int
    test_points: int
    #: importance samples of the bound at test
    test_k: int
    #: targets fitted when none are named
    targets: tuple[str, ...]


_CVAE = {
    "hidden": 64,
    "blocks": 2,
    "context_hidden": (64, 64),
    "prior": "mixture",
    "prior_components": 16,
}

MODELS: Mapping[str, Model] = MappingProxyType(
    {
        "gaussian": Model("gaussian", 3e-3),
        "mixture": Model("mixture", 1e-2, {"components": 8}),
        "flow": Model("flow", 5e-3, {"transforms": 4}),
        "cvae-k1": Model("cvae", 5e-3, {**_CVAE, "latent_dims": (3,), "k": 1}),
        "cvae-k16": Model("cvae", 5e-3, {**_CVAE, "latent_dims": (3,), "k": 16}),
        "cvae-k1-L2": Model("cvae", 5e-3, {**_CVAE, "latent_dims": (3, 2), "k": 1}),
        "cvae-k16-L2": Model("cvae", 5e-3, {**_CVAE, "latent_dims": (3, 2), "k": 16}),
        #: latents that follow the event: cvae-k16 up to three dimensions
        "cvae": Model("cvae", 5e-3, {**_CVAE, "k": 16}),
    }
)

ARMS = ("arm-4", "arm-8", "arm-16")
#: scores of some targets beside the gap, and what the truth itself scores
JUDGED = {"error": "error_ceiling", "mismatch": "mismatch_floor"}

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "full": Preset(3000, 256, 10_000, 500, tuple(n for n in target_names() if n not in ARMS)),
        "arms": Preset(3000, 256, 10_000, 500, ARMS),
        "debug": Preset(10, 64, 200, 8, ("moerland-1d", "ring-2d", "low-rank-6d")),
    }
)


def make_fits(
    preset: str = "full",
    seeds: Sequence[int] | None = None,
    targets: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    validation: bool = False,
) -> list[Fit]:
    """The cells of the table, target by target. Raises ValueError for an unknown name."""
    budget = PRESETS[check_name("preset", preset, PRESETS)]
    targets = targets or budget.targets
    models = models or tuple(MODELS)
    return [
        Fit(
            target=check_name("target", target, target_names()),
            model=check_name("model", model, MODELS),
            seed=seed,
            steps=budget.steps,
            batch_size=budget.batch_size,
            test_points=budget.test_points,
            test_k=budget.test_k,
            settings=MODELS[model],
            validation=validation,
        )
        for seed in seeds or (0,)
        for target in targets
        for model in models
    ]


def run(
    out: Path,
    preset: str = "full",
    seeds: list[int] | None = None,
    targets: list[str] | None = None,
    models: list[str] | None = None,
    jobs: int = 1,
    validation: bool = False,
) -> Path:
    """Fit every model to every target, print the table, draw the pictures; return results.json.

    Args:
        out: folder of the results; finished fits found there are reused.
        preset: "full" (the mixtures), "arms", or "debug", which runs whole in seconds.
        seeds: of initialisation, training and test draws; 0 if None. The pictures show the first.
        targets: names, all of the preset if None.
        models: names, all if None.
        jobs: processes, each with one thread.
        validation: fit the validation variants, on which settings are to be chosen, instead.
    """
    options = {
        "preset": preset,
        "seeds": seeds,
        "targets": targets,
        "models": models,
        "validation": validation,
    }
    fits = make_fits(preset, seeds, targets, models, validation)
    return SUITE.run(fits, out, command=command_line("density-suite", run, options), jobs=jobs)


def assemble(results: Results) -> dict[str, Any]:
    """The table: a row a target, a column a model, then means and seconds."""
    fits = [Fit.from_data(result.cell) for result in results]
    models = list(dict.fromkeys(fit.model for fit in fits))
    cells: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for fit, result in zip(fits, results, strict=True):
        cells.setdefault((fit.target, fit.model), []).append(result.data)
    laws = {fit.target: fit.law() for fit in fits}
    entropies = {name: law.entropy() for name, law in laws.items()}
    small = [name for name, law in laws.items() if law.event_dim <= 2]

    def row(
        label: str, names: Sequence[str], score: str, entropy: str = "", error: str = ""
    ) -> Any:
        return [label, entropy, error, *(_over(cells, names, model, score) for model in models)]

    rows = []
    for name, entropy in entropies.items():
        error = max(data["gap_error"] for model in models for data in cells[name, model])
        rows.append(row(name, [name], "gap", f"{entropy.value:.3f}", f"{error:.3f}"))
    for name in laws:
        data = cells[name, models[0]][0]
        for score, truth in JUDGED.items():
            if score in data:
                rows.append(row(f"{name}, {score} (truth {data[truth]:.3f})", [name], score))
    for label, names in (("mean, 1-D and 2-D", small), ("mean, all", list(laws))):
        if names:
            rows.append(row(label, names, "gap"))
    slowest = [max(d["cpu_seconds"] for name in laws for d in cells[name, m]) for m in models]
    rows.append(["longest fit, CPU s", "", "", *(f"{seconds:.0f}" for seconds in slowest)])
    fit, rise = fits[0], max(abs(result.data["rise_half_k"]) for result in results)
    seeds = list(dict.fromkeys(fit.seed for fit in fits))
    return {
        "title": "Density suite: NLL minus the true entropy [nats]"
        + (", validation variants" if fit.validation else ""),
        "caption": (
            f"Mean of log p_true − log p_model over {fit.test_points:,} test points; s.e. is that "
            "of the row's noisiest cell. A cvae is scored by its lower bound with "
            f"K = {fit.test_k}."
            + (
                f" Means of {len(seeds)} seeds ± half of Student's 95 % interval."
                * (len(seeds) > 1)
            )
        ),
        "columns": ["target", "entropy", "s.e.", *models],
        "rows": rows,
        "notes": [
            f"From K = {fit.test_k // 2} to {fit.test_k} the lower bounds of the latent models "
            f"rise by at most {rise:.4f} nats (2,000 points).",
            "Entropies: closed-form parts plus Monte Carlo over 131,072 draws, s.e. at most "
            f"{max(entropy.standard_error for entropy in entropies.values()):.3f}.",
        ],
        "settings": {
            "seeds": seeds,
            "steps": fit.steps,
            "batch_size": fit.batch_size,
            "models": {fit.model: fit.as_data()["settings"] for fit in fits},
        },
    }


def _over(
    cells: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]],
    names: Sequence[str],
    model: str,
    score: str,
) -> str:
    """The mean over targets, and over seeds with its interval."""
    seeds = zip(*(cells[name, model] for name in names), strict=True)
    return interval([fmean(data[score] for data in seed) for seed in seeds], 3)


SUITE = Experiment(measure, assemble, draw_figures)
