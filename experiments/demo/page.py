"""The report of the demo: one page whose pictures show the difference, then the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from jinja2 import Environment
from markupsafe import Markup
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vaerl.data import Demonstrations
from vaerl.disk import files
from vaerl.disk.versions import versions
from vaerl.envs.inverse_kinematics import Arm, Posterior, draw_arms
from vaerl.experiments.demo.scores import SHOWN, WITHIN
from vaerl.experiments.demo.tasks import SIGMA, TARGET, TASKS
from vaerl.lab.experiment import Results
from vaerl.lab.record import read_record
from vaerl.report.figures import (
    css_color,
    css_variables,
    density_color,
    figure_style,
    new_figure,
    svg_markup,
)
from vaerl.report.map_figures import Rollouts, goal_share_figure, goal_shares, rollout_figure

NAMES = {"gaussian": "Gaussian", "mixture": "Mixture of 32 Gaussians", "cvae": "Conditional VAE"}
Card = dict[str, Any]


def write_page(demonstrations: Demonstrations, results: Results, out: Path) -> Path:
    """Write out/report.html from the first seed's cells and the record in out/results.json."""
    first = min(int(r.cell["seed"]) for r in results)
    shown = {(r.cell["part"], r.cell["density"]): r for r in results if r.cell["seed"] == first}
    clone, reach = (
        {name: shown[part, name] for name in task.densities} for part, task in TASKS.items()
    )
    package = resources.files("vaerl.experiments.demo")
    css = resources.files("vaerl.report").joinpath("style.css").read_text(encoding="utf-8")
    page = Environment(autoescape=True, trim_blocks=True).from_string(
        package.joinpath("page.html.j2").read_text(encoding="utf-8")
    )
    text = page.render(
        css=Markup(css),
        light_variables=Markup(css_variables(dark=False)),
        dark_variables=Markup(css_variables(dark=True)),
        parts=[
            {
                "title": "Learned from demonstrations: pass the posts",
                "text": "Each policy saw the same demonstrations and then acts alone, from the "
                "cross to the green zone. Colours tell the ways apart.",
                "cards": [_shown_ways(demonstrations), *_clone_cards(clone)],
            },
            {
                "title": "Learned online: put the tip of an arm on a target",
                "text": "Many postures reach the red disc. Each policy should draw all of them, "
                "as often as the exact answer does.",
                "cards": [_exact_card(), *_reach_cards(reach)],
            },
        ],
        table=read_record(out / "results.json"),
        footer=f"Made by vaerl {versions()['vaerl']}, seed {first}.",
    )
    return files.write_text(out / "report.html", text)


def _shown_ways(demonstrations: Demonstrations) -> Card:
    episodes = [e for e in demonstrations if e.infos]
    goals = [int(e.infos["goal"][-1]) for e in episodes]
    traces = [np.asarray(e.observations)[:, 2:] for e in episodes]
    count = f"{len(demonstrations)} demonstrations"
    pictures = _paths("demonstrations", traces, goals, "", max(goal_shares(goals, 24)))
    return _card("Demonstrations", "", f"{len(set(goals) - {-1})} ways", f"in {count}", pictures)


def _clone_cards(cells: Mapping[str, Any]) -> list[Card]:
    arrays = {name: cell.arrays() for name, cell in cells.items()}
    cards = []
    for name, cell in cells.items():
        own, data = arrays[name], cell.data
        traces = [row[~np.isnan(row[:, 0])] for row in own["places"]]
        goals, every = own["goals"].tolist(), own["all_goals"].tolist()
        pictures = _paths(name, traces, goals, name, max(goal_shares(every, 24)), every)
        small = f"of episodes arrive, in {data['ways']:.0f} of 24 ways"
        cards.append(_card(NAMES[name], name, f"{data['success']:.0%}", small, pictures))
    return cards


def _paths(
    name: str,
    traces: Sequence[NDArray[np.floating]],
    goals: list[int],
    density: str,
    top: float,
    every: list[int] | None = None,
) -> list[Markup]:
    """Paths over the map, and the shares of the ways."""
    env = gymnasium.make(TASKS["clone"].settings["env"])
    kept = np.linspace(0, len(traces) - 1, min(SHOWN, len(traces))).astype(int)
    paths = rollout_figure([Rollouts([traces[i] for i in kept], [goals[i] for i in kept])], env)
    env.close()
    shares = goal_share_figure(every or goals, 24, density=density, top=1.1 * top)
    return [
        _svg(paths, f"Paths of {name} over the map", f"p-{name}"),
        _svg(shares, f"Share of the ways of {name}", f"s-{name}"),
    ]


def _exact_card() -> Card:
    x = Posterior(Arm(4), TARGET, SIGMA).sample(2 * SHOWN, np.random.default_rng(0))
    small = "of these postures have a draw nearby, in the best case"
    return _card("Exact answer", "", f"{WITHIN:.0%}", small, [_arms("the exact answer", x, "")])


def _reach_cards(cells: Mapping[str, Any]) -> list[Card]:
    cards = []
    for name, cell in cells.items():
        data = cell.data
        pictures = [_arms(name, cell.arrays()["postures"], name)]
        small = f"of the exact postures covered; {data['nats']:.2f} nats from exact"
        cards.append(_card(NAMES[name], name, f"{data['covered']:.0%}", small, pictures))
    return cards


def _arms(name: str, x: NDArray[np.floating], density: str) -> Markup:
    env: Any = gymnasium.make(
        TASKS["reach"].settings["env"], **TASKS["reach"].settings["env_options"]
    ).unwrapped
    with figure_style():
        figure = new_figure(2.8, 2.8)
        ax = figure.add_subplot()
        env.map_artist(ax)
        style = {"colors": density_color(density), "linewidths": 0.8, "alpha": 0.25, "zorder": 3}
        draw_arms(ax, env.arm, np.asarray(x, dtype=np.float64), rasterized=True, **style)
    env.close()
    return _svg(figure, f"Arms drawn by {name}", f"a-{density or 'exact'}")


def _svg(figure: Figure, alt: str, prefix: str) -> Markup:
    return Markup(svg_markup(figure, alt, prefix))


def _card(title: str, density: str, big: str, small: str, pictures: list[Markup]) -> Card:
    color = css_color(density_color(density))
    return {"title": title, "color": color, "big": big, "small": small, "pictures": pictures}
