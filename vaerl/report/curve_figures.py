"""Curves over environment steps: a colour per density, a line style per agent, seeds averaged.

Curves are smoothed by a running mean over 1/`SMOOTHING` of their points. Several seeds of an agent
and density are thin lines. A thick line is their mean up to the step that all have reached, a band
its 95 % interval (Student's t, from three seeds on); `summary` may be another middle and interval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from numpy.typing import NDArray

from vaerl.agents import agent_names
from vaerl.report.figures import (
    COLORS,
    MARKERS,
    density_color,
    density_marker,
    density_rank,
    figure_style,
    new_figure,
)
from vaerl.stats import half_width

Array = NDArray[np.float64]
Summary = Callable[[Array], tuple[Array, Array, Array]]
"""Middle, lower and upper end of an interval over the first axis, the seeds."""

SMOOTHING = 20  # a running mean spans one part in so many of a curve's points
BAND_SEEDS = 3  # the interval of two seeds spans 12.7 standard errors: too wide to be of use
GRID_POINTS = 200  # points of a drawn curve; longer ones are interpolated
LINE_STYLES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))
"""Line styles of agents in the order of their registry; further agents share the last."""


@dataclass(frozen=True)
class Curve:
    """One logged quantity of one run: `values` at environment `steps`, both of shape (N,)."""

    agent: str
    density: str
    label: str
    steps: Array
    values: Array


def curve_of(
    records: Iterable[Mapping[str, Any]], key: str, *, agent: str, density: str, label: str
) -> Curve | None:
    """The finite values logged under `key`, in the order of their steps; None without any.

    >>> log = [{"global_step": 10, "x": 2.0}, {"global_step": 20}, {"global_step": 30, "x": 1}]
    >>> curve_of(log, "x", agent="sac", density="cvae", label="run").steps.tolist()
    [10.0, 30.0]
    """
    points = {
        float(record["global_step"]): float(record[key])
        for record in records
        if _is_number(record.get(key)) and _is_number(record.get("global_step"))
    }
    if not points:
        return None
    steps = np.array(sorted(points))
    return Curve(agent, density, label, steps, np.array([points[s] for s in steps]))


def smooth(values: Array) -> Array:
    """Centred running mean over 1/`SMOOTHING` of the points, the window cut at both ends.

    >>> smooth(np.array([1.0, 2.0])).tolist()
    [1.0, 2.0]
    """
    half = len(values) // SMOOTHING // 2
    if half == 0:
        return values
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    start, stop = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (total[stop] - total[start]) / (stop - start)


def mean_and_interval(runs: Array) -> tuple[Array, Array, Array]:
    """Mean over the first axis, and the ends of its 95 % interval (Student's t)."""
    mean, half = runs.mean(axis=0), half_width(runs)
    return mean, mean - half, mean + half


def over_seeds(
    curves: Sequence[Curve], summary: Summary = mean_and_interval
) -> tuple[Array, Array, Array, Array]:
    """Steps, and the summary of the smoothed curves there, on the steps all runs share.

    The arrays are empty if the runs share no range of steps.
    """
    first = max(curve.steps[0] for curve in curves)
    last = min(curve.steps[-1] for curve in curves)
    if first >= last:
        return np.empty(0), np.empty(0), np.empty(0), np.empty(0)
    grid = np.linspace(first, last, GRID_POINTS)
    runs = np.stack([np.interp(grid, c.steps, smooth(c.values)) for c in curves])
    return grid, *summary(runs)


def curve_figure(
    curves: Sequence[Curve],
    *,
    ylabel: str,
    title: str = "",
    legend: bool = True,
) -> Figure:
    """A figure of `draw_curves`.

    >>> steps = np.arange(5.0)
    >>> figure = curve_figure([Curve("sac", "cvae", "a", steps, steps)], ylabel="return")
    >>> figure.axes[0].get_xlabel()
    'environment steps'
    """
    groups = len({(curve.agent, curve.density) for curve in curves})
    with figure_style():
        figure = new_figure(4.0, 2.5 + 0.19 * (-(-groups // 2) if legend else 0))
        draw_curves(figure.subplots(), curves, ylabel=ylabel, title=title)
        if legend:
            figure.legend(loc="outside lower left", ncols=2 if groups > 1 else 1)
    return figure


def draw_curves(
    ax: Axes,
    curves: Sequence[Curve],
    *,
    ylabel: str,
    title: str = "",
    summary: Summary = mean_and_interval,
) -> None:
    """Draw curves of one quantity into `ax`, grouped by agent and density.

    Raises ValueError without a curve.
    """
    if not curves:
        raise ValueError("curves: got none, expected at least one logged quantity")
    groups: dict[tuple[str, str], list[Curve]] = {}
    for curve in curves:
        groups.setdefault((curve.agent, curve.density), []).append(curve)
    for place, (agent, density) in enumerate(sorted(groups, key=_group_rank)):
        _draw_group(ax, agent, density, groups[agent, density], place, summary)
    _limit_to_data(ax, curves)
    ax.grid(axis="y")
    ax.set_xlabel("environment steps")
    ax.set_ylabel(ylabel)
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.yaxis.set_major_locator(MaxNLocator(6))
    if title:
        ax.set_title(title, loc="left", weight="bold")


def _line_style(agent: str) -> Any:
    """Solid for names that are not agents, such as the learners of a comparison."""
    known = agent_names()
    return LINE_STYLES[min(known.index(agent), 3) if agent in known else 0]


def _group_rank(group: tuple[str, str]) -> tuple[str, tuple[int, str]]:
    return group[0], density_rank(group[1])


def _draw_group(
    ax: Axes,
    agent: str,
    density: str,
    members: Sequence[Curve],
    number: int,
    summary: Summary,
) -> None:
    """Draw group `number`, which shifts its markers and, without a density, picks its colour."""
    color = density_color(density) if density else COLORS[number % len(COLORS)]
    style: Any = {
        "color": color,
        "linestyle": _line_style(agent),
        "marker": density_marker(density) if density else _marker(number),
        "markersize": 4.0,
        "linewidth": 1.8,
    }
    name = " · ".join(filter(None, (agent, density)))
    steps, middle, low, high = over_seeds(members, summary)
    if len(members) == 1 or not len(steps):  # one seed, or seeds without common steps
        for member, label in zip(members, [name, *[None] * len(members)], strict=False):
            own, values = _thinned(member)
            ax.plot(own, values, label=label, markevery=_marked(len(own), number), **style)
        return
    for member in members:
        ax.plot(*_thinned(member), color=color, linewidth=0.8, alpha=0.6)
    if len(members) >= BAND_SEEDS:
        ax.fill_between(steps, low, high, color=color, alpha=0.18, linewidth=0)
    label = f"{name} ({len(members)} seeds)"
    ax.plot(steps, middle, label=label, markevery=_marked(len(steps), number), **style)


def _marked(points: int, number: int) -> list[int]:
    """The points of a curve that carry its marker: five of them, or all of a short curve."""
    if points <= 5:
        return list(range(points))
    shift = 0.06 * (number % 3 - 1)
    return [round((points - 1) * (0.08 + 0.21 * i + shift)) for i in range(5)]


def _marker(number: int) -> str:
    """The marker of a group without a density; a colour that comes again has another one."""
    return MARKERS[(number + number // len(COLORS)) % len(MARKERS)]


def _thinned(curve: Curve) -> tuple[Array, Array]:
    """The smoothed curve, interpolated where it has more points than are drawn."""
    values = smooth(curve.values)
    if len(values) <= GRID_POINTS:
        return curve.steps, values
    grid = np.linspace(curve.steps[0], curve.steps[-1], GRID_POINTS)
    return grid, np.interp(grid, curve.steps, values)


def _limit_to_data(ax: Axes, curves: Sequence[Curve]) -> None:
    """Start at step 0; the curves alone set the range of the y axis, since bands can be huge."""
    ax.set_xlim(0.0, 1.02 * max(1.0, *(float(curve.steps[-1]) for curve in curves)))
    drawn = np.concatenate([smooth(curve.values) for curve in curves])
    low, high = float(drawn.min()), float(drawn.max())
    margin = 0.06 * (high - low) or 0.06 * max(abs(high), 1.0)
    ax.set_ylim(low - margin, high + margin)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
