"""Roll-outs over the map of an environment, and how often each of its goals is reached."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from vaerl.report.figures import (
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


class Rollouts(NamedTuple):
    """Episodes of one policy on the map."""

    traces: Sequence[ArrayLike]
    """Positions (T, 2) of each episode."""
    goals: Sequence[int]
    """The goal that each episode reached, −1 for none."""
    title: str = ""
    density: str = ""
    """Name that colours the title."""


def rollout_figure(runs: Sequence[Rollouts], env: Any) -> Figure:
    """Roll-outs over the map, one panel per policy, each coloured by the goal it reached.

    The first `MAX_TRACES` of a policy are drawn (`MAX_DOTS` where all end after one step).

    Args:
        runs: the policies, at least one.
        env: the environment, for its `map_artist(ax)`, which also sets the limits.

    Raises:
        ValueError: the numbers of goals and roll-outs differ.
    """
    env = getattr(env, "unwrapped", env)
    columns = min(len(runs), PANELS_A_ROW)
    rows = -(-len(runs) // columns)
    with figure_style():
        figure = new_figure(0.2 + 2.6 * columns, 0.1 + 2.8 * rows)
        for place, run in enumerate(runs, start=1):
            if len(run.traces) != len(run.goals):
                got = f"{len(run.goals)} for {len(run.traces)} roll-outs"
                raise ValueError(f"goals: got {got}, expected one each")
            ax = figure.add_subplot(rows, columns, place)
            env.map_artist(ax)
            _draw_traces(ax, run.traces, run.goals)
            for spine in ax.spines.values():
                spine.set_visible(True)
            ax.set_title(run.title, color=density_color(run.density), weight="bold")
    return figure


def goal_share_figure(
    goals: Sequence[int],
    num_modes: int,
    *,
    title: str = "",
    density: str = "",
    note: str = "",
    top: float | None = None,
) -> Figure:
    """Share of one policy's roll-outs that end in each goal; a line marks the uniform share.

    Args:
        goals: the goal index of each episode, −1 for none (drawn as the bar "none").
        num_modes: number of goals, G; the line stands at 1/G.
        title, density: its title, and the name that colours its bars.
        note: a line under the title, such as its score and the ceiling.
        top: upper limit of the shares, the same in figures to be compared.

    Raises:
        ValueError: no episode, or a goal that is not −1 … G − 1.

    >>> figure = goal_share_figure([0, 1, 1, -1], 2)
    >>> [float(bar.get_height()) for bar in figure.axes[0].patches]
    [0.25, 0.5, 0.25]
    """
    shares = goal_shares(goals, num_modes)
    with figure_style():
        figure = new_figure(3.0, 2.4)
        ax = figure.subplots()
        color = density_color(density)
        places = np.append(np.arange(num_modes), num_modes + 0.4)
        ax.bar(places, shares, width=0.78, color=[color] * num_modes + [NO_GOAL_COLOR])
        ax.axhline(1.0 / num_modes, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
        shown = range(0, num_modes, max(1, num_modes // 10))
        ax.set_xticks([*shown, num_modes + 0.4], [*map(str, shown), "none"])
        ax.tick_params(axis="x", length=0)
        ax.set_ylim(0.0, top or min(1.0, 1.12 * shares.max()))
        ax.set_ylabel("share of episodes")
        ax.set_title(title, color=color, weight="bold", pad=17.0 if note else 6.0)
        beside: Any = {"xycoords": "axes fraction", "textcoords": "offset points"}
        ax.annotate(note, (0.5, 1.0), (0, 4), ha="center", size=8.0, color=MUTED, **beside)
    return figure


def goal_shares(goals: Sequence[int], num_modes: int) -> np.ndarray:
    """Share of episodes in each of the `num_modes` goals and, last, in none of them; sums to 1."""
    counts = Counter(int(goal) for goal in goals)
    wrong = sorted(goal for goal in counts if not -1 <= goal < num_modes)
    if wrong or not goals:
        got = f"goal {wrong[0]}" if wrong else "no episode"
        raise ValueError(f"goals: got {got}, expected episodes in −1 … {num_modes - 1}")
    return np.array([counts[g] for g in [*range(num_modes), -1]], float) / len(goals)


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
