"""Shared by all pictures: a canvas without pyplot, one palette, SVG with themes.

A figure is a `matplotlib.figure.Figure` on an Agg canvas. Drawing one needs no screen and does not
touch the caller's backend or rcParams. A figure becomes a PNG (`save_png`: trackers, `figures/` of
a run) or inline SVG (`svg_markup`: the report). Colours in SVG are CSS variables, so that light,
dark and printed pages are readable.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vaerl.densities.registry import density_names
from vaerl.envs import drawing

INK = "#1f2328"
MUTED = "#656d77"
GRID = "#d9dde2"

# Okabe & Ito (2008), distinct under all common kinds of colour blindness; markers repeat them.
# Densities take them in the order of their registry, where vaerl's own come first.
COLORS = ("#0072b2", "#009e73", "#d55e00", "#e69f00", "#cc79a7", "#56b4e9", "#8c6d31", "#7f6fb0")
MARKERS = ("o", "s", "D", "^", "P", "X", "v", "*")

# The same colours for a dark page; the page declares one CSS variable per entry.
DARK_COLORS = {
    INK: "#e6e9ee",
    MUTED: "#9aa4b1",
    GRID: "#343b45",
    drawing.INK: "#e6e9ee",
    drawing.WALL: "#8b95a7",
    drawing.FAINT: "#454d58",
    "#0072b2": "#4db2ec",
    "#009e73": "#35cfa0",
    "#e69f00": "#f2b632",
    "#d55e00": "#ff8440",
    "#cc79a7": "#e29cc4",
    "#56b4e9": "#7cc8f2",
    "#8c6d31": "#c9a45c",
    "#7f6fb0": "#ada0d8",
}

NO_GOAL_COLOR = "#9aa1a9"

_STYLE: Any = {  # matplotlib spells out the type of every key
    "font.family": ["sans-serif"],
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.0,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "white",
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "vaerl",
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw in the style of vaerl inside the block; the caller's rcParams come back after it."""
    with matplotlib.rc_context(_STYLE):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` × `height` inches on an Agg canvas, with constrained layout.

    >>> new_figure(3.0, 2.0).canvas.__class__.__name__
    'FigureCanvasAgg'
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def density_color(name: str) -> str:
    """The colour of a density, the same in every picture; other names share the later colours.

    That of no name is the colour of text.

    >>> density_color("cvae"), density_color("gaussian")
    ('#d55e00', '#0072b2')
    """
    return COLORS[_place(name)] if name else INK


def density_rank(name: str) -> tuple[int, str]:
    """The place of a density in every legend and table: the simplest first, other names last.

    >>> sorted(["cvae", "mine", "gaussian"], key=density_rank)
    ['gaussian', 'cvae', 'mine']
    """
    known = density_names()
    return known.index(name) if name in known else len(known), name


def density_marker(name: str) -> str:
    """The marker of a density: its second sign beside the colour."""
    return MARKERS[_place(name)]


def _place(name: str) -> int:
    """The place of a density in the palette, and a steady one among the rest for other names."""
    known = density_names()[: len(COLORS)]
    if name in known:
        return known.index(name)
    rest = len(COLORS) - len(known)
    return len(known) + sum(name.encode()) % rest if rest else sum(name.encode()) % len(COLORS)


def goal_color(goal: int) -> str:
    """The colour of a goal, as the maps of the environments draw it; −1 (none reached) is grey.

    >>> goal_color(-1)
    '#9aa1a9'
    """
    return NO_GOAL_COLOR if goal < 0 else drawing.goal_color(goal)


def quiet_axes(ax: Axes) -> None:
    """Take ticks and spines away, for panels that are pictures rather than charts."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def save_png(figure: Figure, path: Path, dpi: int = 130) -> Path:
    """Write `figure` as a PNG on white, whole or not at all; returns `path`."""
    from vaerl.disk.files import write_bytes

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    write_bytes(path, buffer.getvalue())
    return path


def css_variables(dark: bool) -> str:
    """The palette as CSS declarations, `--c-0072b2: #…;`, for the light or the dark page."""
    return " ".join(
        f"--c-{light[1:]}: {other if dark else light};" for light, other in DARK_COLORS.items()
    )


def css_color(color: str) -> str:
    """How a palette colour is written in the page, `var(--c-0072b2, #0072b2)`."""
    return f"var(--c-{color[1:]}, {color})" if color in DARK_COLORS else color


def svg_markup(figure: Figure, alt: str, prefix: str) -> str:
    """`figure` as an `<svg>` element to put into a page.

    `alt` is the description for screen readers; `prefix` makes the ids unique within the page. Text
    stays text, colours of the palette become CSS variables, and the background is transparent. The
    element refers to no address on any network.
    """
    buffer = io.StringIO()
    blank = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format="svg", facecolor="none", metadata=blank, dpi=150)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    head, body = text.split(">", 1)
    view_box = re.search(r'viewBox="([^"]*)"', head)
    assert view_box is not None, head
    width = float(view_box.group(1).split()[2])

    body = re.sub(r"<style type=\"text/css\">.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="([^"]*)"', rf'id="{prefix}-\1"', body)
    body = re.sub(r'xlink:href="#', f'href="#{prefix}-', body)
    body = body.replace('xlink:href="data:', 'href="data:').replace("url(#", f"url(#{prefix}-")
    body = re.sub(r"font-family: [^;\"]*;?", "", body)
    body = re.sub(r"font: ([\w. ]*?)([\d.]+px) [^;\"]*", _font, body)
    for color in DARK_COLORS:
        body = re.sub(color, css_color(color), body, flags=re.IGNORECASE)
    return (
        f'<svg viewBox="{view_box.group(1)}" style="--w:{width * 96 / 72:.0f}px" role="img" '
        f"aria-label={quoteattr(alt)}>{body}"
    )


def _font(match: re.Match[str]) -> str:
    """Matplotlib's `font: bold 9px 'DejaVu Sans', …` without its family, which the page sets."""
    weight = f"font-weight: {'bold' if 'bold' in match.group(1) else 'normal'}"
    return f"font-size: {match.group(2)}; {weight}"
