"""Roll-outs over the map of an environment, and how often each of its goals is reached."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from vaerl.report.figures import (
    INK,
    MUTED,
    NO_GOAL_COLOR,
    density_color,
    figure_style,
    goal_color,
    new_figure,
)

PANELS_A_ROW = 4
MAX_TRACES = 200  # roll-outs drawn in one panel as lines
MAX_DOTS = 2000  # roll-outs of one step, drawn as dots


def rollout_figure(
    traces: Sequence[Sequence[ArrayLike]],
    goals: Sequence[Sequence[int]],
    env: Any,
    *,
    titles: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> Figure:
    """Roll-outs over the map, one panel per run, each coloured by the goal it reached.

    Args:
        traces: per run a sequence of roll-outs, each an array (T, 2) of positions on the map; the
            first `MAX_TRACES` of a run are drawn (`MAX_DOTS` where all end after one step).
        goals: per run the index of the goal that each roll-out reached, −1 for none.
        env: the environment, for its `map_artist(ax)`, which also sets the limits.
        titles, names: per run its title and its density, which colours the title.

    Raises:
        ValueError: no run, or runs, roll-outs and goals whose numbers differ.
    """
    titles, names = _check_runs("traces", traces, goals, titles, names)
    env = getattr(env, "unwrapped", env)
    columns = min(len(traces), PANELS_A_ROW)
    rows = -(-len(traces) // columns)
    with figure_style():
        figure = new_figure(0.2 + 2.6 * columns, 0.1 + 2.8 * rows)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax in axes[len(traces) :]:
            ax.set_visible(False)
        for run, ax in enumerate(axes[: len(traces)]):
            env.map_artist(ax)
            _draw_traces(ax, traces[run], goals[run])
            for spine in ax.spines.values():
                spine.set_visible(True)
            color = density_color(names[run]) if names[run] else INK
            ax.set_title(titles[run], color=color, weight="bold")
    return figure


def goal_share_figure(
    goals: Sequence[Sequence[int]],
    num_modes: int,
    *,
    titles: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    notes: Sequence[str] | None = None,
    top: float | None = None,
) -> Figure:
    """Share of roll-outs that end in each goal, one panel per run; a line marks the uniform share.

    Args:
        goals: per run the goal index of each episode, −1 for none (drawn as the bar "none").
        num_modes: number of goals, G; the line stands at 1/G.
        titles, names: per run its title and its density, which colours its bars.
        notes: per run a line under the title, such as its score and the ceiling.
        top: top of the axis of shares, where several figures are to compare.

    Raises:
        ValueError: no run, a run without an episode, or a goal that is not −1 … G − 1.

    >>> figure = goal_share_figure([[0, 1, 1, -1]], 2)
    >>> [float(bar.get_height()) for bar in figure.axes[0].patches]
    [0.25, 0.5, 0.25]
    """
    titles, names = _check_runs("goals", goals, None, titles, names)
    shares = [goal_shares(run, num_modes) for run in goals]
    columns = min(len(goals), PANELS_A_ROW)
    rows = -(-len(goals) // columns)
    top = top or min(1.0, 1.12 * max(share.max() for share in shares))
    with figure_style():
        figure = new_figure(0.5 + 2.5 * columns, 0.2 + 2.2 * rows)
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for ax in axes.ravel()[len(goals) :]:
            ax.set_visible(False)
        for run, ax in enumerate(axes.ravel()[: len(goals)]):
            color = density_color(names[run]) if names[run] else INK
            places = np.append(np.arange(num_modes), num_modes + 0.4)
            colors = [color] * num_modes + [NO_GOAL_COLOR]
            ax.bar(places, shares[run], width=0.78, color=colors)
            ax.axhline(1.0 / num_modes, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
            shown = range(0, num_modes, max(1, num_modes // 10))
            ax.set_xticks([*shown, num_modes + 0.4], [*map(str, shown), "none"])
            ax.tick_params(axis="x", length=0)
            ax.set_ylim(0.0, top)
            pad = 6.0 if notes is None else 17.0
            ax.set_title(titles[run], color=color, weight="bold", pad=pad)
            if notes is not None:
                _note(ax, notes[run])
        for ax in axes[:, 0]:
            ax.set_ylabel("share of episodes")
    return figure


def goal_shares(goals: Sequence[int], num_modes: int) -> np.ndarray:
    """Share of episodes in each of the `num_modes` goals and, last, in none of them; sums to 1."""
    counts = Counter(int(goal) for goal in goals)
    wrong = sorted(goal for goal in counts if not -1 <= goal < num_modes)
    if wrong or not goals:
        got = f"goal {wrong[0]}" if wrong else "no episode"
        raise ValueError(f"goals: got {got}, expected episodes in −1 … {num_modes - 1}")
    return np.array([counts[g] for g in [*range(num_modes), -1]], float) / len(goals)


def _note(ax: Axes, text: str) -> None:
    ax.annotate(
        text,
        (0.5, 1.0),
        xycoords="axes fraction",
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        size=8.0,
        color=MUTED,
    )


def _draw_traces(ax: Axes, traces: Sequence[ArrayLike], goals: Sequence[int]) -> None:
    """Lines from start to end with a dot at the end; of episodes of one step only the dots."""
    rows = [np.asarray(trace, float).reshape(-1, 2) for trace in traces]
    lines_wanted = max((len(row) for row in rows), default=0) > 2
    most = MAX_TRACES if lines_wanted else MAX_DOTS
    paired = [(row, goal_color(int(g))) for row, g in zip(rows, goals, strict=True) if len(row)]
    if not paired:
        return
    shown, colors = [row for row, _ in paired[:most]], [color for _, color in paired[:most]]
    if lines_wanted:
        fade = float(np.clip(8.0 / len(shown) ** 0.6, 0.35, 0.9))
        lines = LineCollection(shown, colors=colors, linewidths=1.1, alpha=fade, zorder=3)
        lines.set_rasterized(True)
        ax.add_collection(lines)
    ends = np.array([trace[-1] for trace in shown])
    dots = ax.scatter(ends[:, 0], ends[:, 1], s=9, c=colors, linewidths=0, zorder=4)
    dots.set_rasterized(True)


def _check_runs(
    argument: str,
    runs: Sequence[Sequence[Any]],
    goals: Sequence[Sequence[int]] | None,
    titles: Sequence[str] | None,
    names: Sequence[str] | None,
) -> tuple[list[str], list[str]]:
    if len(runs) == 0:
        raise ValueError(f"{argument}: got no run, expected at least one")
    for other, given in (("goals", goals), ("titles", titles), ("names", names)):
        if given is not None and len(given) != len(runs):
            raise ValueError(f"{other}: got {len(given)}, expected {len(runs)}, one per run")
    for run, own in zip(runs, goals or [], strict=bool(goals)):
        if len(run) != len(own):
            raise ValueError(f"goals: got {len(own)} for {len(run)} roll-outs, expected one each")
    default = [f"run {i + 1}" for i in range(len(runs))] if len(runs) > 1 else [""]
    return list(titles or default), list(names or [""] * len(runs))
