"""The sections of a report on one environment: pictures, how to read them, what is missing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from matplotlib.figure import Figure

from vaerl.envs import metrics
from vaerl.report.curve_figures import SMOOTHING, Curve, curve_figure, curve_of
from vaerl.report.density_figures import MAX_PAIR_DIMS, density_figure
from vaerl.report.density_values import share_outside
from vaerl.report.map_figures import Rollouts, goal_share_figure, goal_shares, rollout_figure
from vaerl.report.policies import ActedRun, RunPolicy, chosen_states
from vaerl.report.records import RunRecord
from vaerl.report.world import look_at_world, world_figures

MAX_COLUMNS = 6  # densities side by side; of more runs, one of each group is shown
WORTH_A_NOTE = 0.05  # share of draws outside the action box
WORLD = {
    "laws": "One-step predictions; a line marks the outcome, grey the true law where it is known",
    "calibration": "PIT values of all coordinates, and the share of outcomes in central intervals",
    "fan": "Roll-outs under the actions taken; bands hold 50 and 90 %",
}
MOST_PANELS = 24  # of one kind, such as the layers of a latent
MANY_GROUPS = 4  # with more, the curves of each agent get a separate panel


class Picture(NamedTuple):
    """A figure, its description for screen readers, and its caption."""

    figure: Figure
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """Pictures under one heading; `layout` is "" (a grid), "small" or "wide"."""

    title: str
    read: str = ""
    pictures: tuple[Picture, ...] = ()
    notes: tuple[str, ...] = ()
    layout: str = ""


class Panel(NamedTuple):
    """One logged quantity: the pattern of its key, its title and axis, what it means.

    `otherwise` is the key to show if no run logged the first.
    """

    pattern: str
    title: str
    ylabel: str
    meaning: str = ""
    otherwise: str = ""


LEARNING = (
    Panel(
        "rollout/ep_rew",
        "Return in training",
        "return",
        "mean over the episodes since the last row of the log",
        "rollout/ep_rew_mean",
    ),
    Panel("eval/return_mean", "Return in evaluations", "return", "actions drawn from the policy"),
    Panel("eval/success_rate", "Success in evaluations", "share of episodes"),
    Panel(
        "eval/multi_goal_score", "Multi-goal score", "score", "1/G with one of G goals, at most 1"
    ),
    Panel("eval/mode_entropy", "Mode entropy", "entropy", "of the goals reached; 1 is uniform"),
    Panel("rollout/ep_len", "Episode length", "steps", "in training", "rollout/ep_len_mean"),
)
MODEL = (
    "Learned model over time",
    "Lower is better.",
    (
        Panel("model/holdout_score", "Model: held-out NLL", "nats", "mean of the members in use"),
        Panel(
            "model/calibration_error",
            "Model: calibration error",
            "share",
            "distance of the PIT from uniform; 0 is perfect",
        ),
    ),
)
LATENT = (
    "Bound gap and latent diagnostics",
    "If the bound gap is near 0, the log-density used in training is nearly exact. If a layer's KL "
    "and active units are near 0, its code is ignored. Curves are smoothed as above.",
    (
        Panel("latent/bound_gap", "Bound gap", "nats", "upper minus lower bound of log π"),
        Panel(r"latent/kl_layer_(\d+)", "KL, layer {}", "nats", "code against its prior"),
        Panel(r"latent/active_units_(\d+)", "Active units, layer {}", "units", "codes in use"),
        Panel("latent/ess_ratio", "Effective sample size", "share of k", "1 is perfect"),
    ),
)
ENTROPY = (
    "Entropy and temperature",
    "How random the agent keeps its policy. Both settle as learning does.",
    (
        Panel("train/ent_coef", "Temperature", "α", "weight of the entropy in SAC's objective"),
        Panel("train/entropy_lower", "Entropy", "nats", "minus the mean of log π, a lower bound"),
        Panel("train/entropy_loss", "Entropy loss", "nats", "minus the entropy of PPO's policy"),
    ),
)


def learning_section(records: Sequence[RunRecord]) -> Section:
    """Return, score and success over environment steps."""
    pictures = _curve_pictures(records, LEARNING)
    several = len({r.group for r in records}) < len(records)
    read = "Higher is better."
    if several:
        read += (
            " Thin lines are single seeds. A thick line is their mean up to the end of the "
            "shortest run, a band its 95 % interval (Student's t, from three seeds on)."
        )
    read += f" Curves are running means over 1/{SMOOTHING} of their points."
    notes = [f"{r.label} has not logged a return yet." for r in records if r.final_return is None]
    return Section("Learning curves", read, pictures, tuple(notes))


def curve_section(
    records: Sequence[RunRecord], title: str, read: str, panels: Iterable[Panel]
) -> Section | None:
    """Curves of what some agents log over environment steps; None if no run logged any of it."""
    pictures = _curve_pictures(records, panels)
    return Section(title, read, pictures) if pictures else None


def density_section(policies: Sequence[RunPolicy], missing: Sequence[str]) -> Section:
    """The policies' densities at the same states, side by side."""
    notes = list(missing)
    policies = [policy for policy in policies if policy.has_density]
    chosen = representatives(policies)
    if len(chosen) < len(policies):
        notes.append("With many runs, only the lowest seed of each agent and density is shown.")
    if not chosen:
        return Section("Policy density at chosen states", notes=tuple(notes))
    states = chosen_states(chosen[0])
    columns = [policy.value(states.observations) for policy in chosen]
    labels = [policy.record.label for policy in chosen]
    low, high = chosen[0].box
    figure = density_figure(
        columns,
        low,
        high,
        labels,
        states=states.names,
        names=[policy.record.density for policy in chosen],
    )
    for label, column in zip(labels, columns, strict=True):
        share = share_outside(column, low, high)
        if share >= WORTH_A_NOTE:
            notes.append(f"{label}: {share:.0%} of its draws leave the action box and are clipped.")
    alt = f"Density of the policy at {', '.join(states.names)} for {', '.join(labels)}"
    picture = Picture(figure, alt, f"Action box {_box_words(low, high)}. {states.where}")
    read = _how_to_read_density(len(low), any(column.codes for column in columns))
    return Section("Policy density at chosen states", read, (picture,), tuple(notes), "wide")


def world_section(policies: Sequence[RunPolicy]) -> Section | None:
    """The predictions of learned models on steps they were not fitted to."""
    pictures = []
    for policy in representatives(policies):
        look = look_at_world(policy)
        if look is None:
            continue
        label = policy.record.label
        for name, figure in world_figures(look, label).items():
            alt = f"Learned model of {label}: {WORLD[name]}"
            pictures.append(Picture(figure, alt, f"{WORLD[name]}."))
    if not pictures:
        return None
    read = (
        "Predictions for the steps of a new episode. The model is well calibrated if its PIT "
        "values are uniform and the shares lie on the diagonal. The dashed line is the true path."
    )
    return Section("Learned model", read, tuple(pictures))


def rollout_section(acted: Sequence[ActedRun], missing: Sequence[str]) -> Section | None:
    """Roll-outs over the map, a panel a run, for environments that have one."""
    drawn = [run for run in acted if run.traces]
    if not drawn:
        return None
    pictures = []
    for run in drawn:
        label = run.record.label
        rollouts = Rollouts(run.traces, run.trace_goals, label, run.record.density)
        figure = rollout_figure([rollouts], run.env)
        reached = metrics.goals_reached(run.trace_goals, run.env.num_modes)
        alt = f"Roll-outs of {label} on the map; {reached} goals reached"
        pictures.append(Picture(figure, alt))
    count = max(len(run.traces) for run in drawn)
    steps = max(len(trace) - 1 for run in drawn for trace in run.traces)
    read = (
        f"Each {'line' if steps > 1 else 'dot'} is one of {count} episodes with actions drawn from "
        "the policy. Its colour shows the goal it reached; grey means none."
    )
    return Section("Roll-outs over the map", read, tuple(pictures), tuple(missing), "small")


def share_section(acted: Sequence[ActedRun]) -> Section | None:
    """Bars of goal shares with the uniform share, the score and its ceiling."""
    scored = [run for run in acted if run.goals]
    if not scored:
        return None
    modes = scored[0].env.num_modes
    top = max(float(goal_shares(run.goals, modes).max()) for run in scored)
    pictures = []
    for run in scored:
        score = metrics.multi_goal_score(run.goals, modes)
        ceiling = metrics.score_ceiling(modes, len(run.goals))
        note = f"score {score:.3f}, ceiling {ceiling.mean:.3f} ({len(run.goals)} episodes)"
        figure = goal_share_figure(
            run.goals,
            modes,
            title=run.record.label,
            density=run.record.density,
            note=note,
            top=min(1.0, 1.12 * top),
        )
        alt = f"Share of episodes of {run.record.label} in each of {modes} goals; {note}"
        pictures.append(Picture(figure, alt))
    read = (
        "A policy that reaches all goals equally often fills each bar to the dashed line, "
        f"1/{modes}. The ceiling is the mean score of such a policy over as many episodes."
    )
    return Section("Goal shares", read, tuple(pictures), layout="small")


def representatives(policies: Sequence[RunPolicy]) -> list[RunPolicy]:
    """All policies, or if there are many, the one with the lowest seed of each group."""
    if len(policies) <= MAX_COLUMNS:
        return list(policies)
    best: dict[tuple[str, str], RunPolicy] = {}
    for policy in sorted(policies, key=lambda p: p.record.seed):
        best.setdefault(policy.record.group, policy)
    return list(best.values())


def _curve_pictures(records: Sequence[RunRecord], panels: Iterable[Panel]) -> tuple[Picture, ...]:
    """One picture per logged quantity (and per agent, where there are many groups)."""
    agents = sorted({r.agent for r in records})
    many = len({r.group for r in records}) > MANY_GROUPS and len(agents) > 1
    pictures = []
    for panel in panels:
        for key, title in _matching_keys(records, panel):
            for agent in agents if many else [None]:
                members = [r for r in records if agent in (None, r.agent)]
                curves = _curves(members, key)
                if curves:
                    heading = f"{title} · {agent}" if agent else title
                    figure = curve_figure(
                        curves,
                        ylabel=panel.ylabel,
                        title=heading,
                        legend=len({(c.agent, c.density) for c in curves}) > 1,
                    )
                    alt = f"{heading} over environment steps: {_ends(curves)}"
                    pictures.append(Picture(figure, alt, _sentence(panel.meaning, key)))
    return tuple(pictures)


def _matching_keys(records: Sequence[RunRecord], panel: Panel) -> list[tuple[str, str]]:
    """The logged keys that a panel shows, with their titles."""
    keys = sorted({key for record in records for row in record.rows for key in row})
    for pattern in filter(None, (panel.pattern, panel.otherwise)):
        found = [(key, re.fullmatch(pattern, key)) for key in keys]
        matching = [(key, panel.title.format(*match.groups())) for key, match in found if match]
        if matching:
            return matching[:MOST_PANELS]
    return []


def _curves(records: Sequence[RunRecord], key: str) -> list[Curve]:
    found = [
        curve_of(r.rows, key, agent=r.agent, density=r.density, label=r.label) for r in records
    ]
    return [curve for curve in found if curve is not None]


def _ends(curves: Sequence[Curve]) -> str:
    return "; ".join(f"{c.label} ends at {c.values[-1]:.4g}" for c in curves)


def _sentence(meaning: str, key: str) -> str:
    return f"{meaning[0].upper()}{meaning[1:]} ({key})." if meaning else f"{key}."


def _box_words(low: Sequence[float], high: Sequence[float]) -> str:
    """A box in words, `[−1, 1]⁶` where all sides are alike."""
    sides = [f"[{a:g}, {b:g}]".replace("-", "−") for a, b in zip(low, high, strict=True)]
    if len(set(sides)) > 1:
        return " × ".join(sides)
    power = str(len(sides)).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return sides[0] + (power if len(sides) > 1 else "")


def _how_to_read_density(dims: int, codes: bool) -> str:
    latent = (
        " A latent density is approximated by its mean over fixed codes."
        if codes and dims <= 2
        else ""
    )
    if dims == 1:
        return "Curves show p(a | s). Panels of a row share the vertical axis." + latent
    if dims == 2:
        scale = (
            "Brighter means more likely (square-root scale, shared within a row; the brightest "
            "half percent is clipped). Several spots are several modes."
        )
        return scale + latent
    return (
        "Blocks are histograms of samples over two action dimensions (brighter means more likely, "
        "square-root scale, shared within a row); the diagonal shows each dimension alone. Of more "
        f"than {MAX_PAIR_DIMS} dimensions, those that vary most are shown."
    )
