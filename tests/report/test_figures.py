"""Pictures: they show what the numbers say, and drawing them leaves the process as it was."""

from __future__ import annotations

import re

import matplotlib
import numpy as np
import pytest
import torch
from scipy.stats import t as student_t
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from vaerl.agents import SAC
from vaerl.densities import make_density
from vaerl.envs import drawing
from vaerl.envs.multigoal import MultiGoalEnv
from vaerl.report.curve_figures import Curve, _marker, curve_figure, curve_of, over_seeds, smooth
from vaerl.report.density_figures import density_figure
from vaerl.report.density_values import grid_density, how_drawn, sample_rows
from vaerl.report.figures import COLORS, DARK_COLORS, density_color, svg_markup
from vaerl.report.map_figures import (
    MAX_TRACES,
    Rollouts,
    goal_share_figure,
    goal_shares,
    rollout_figure,
)
from vaerl.report.policy_density import PolicyDensity


def normal(*places: tuple[float, ...], sigma: float = 0.1) -> Independent:
    """A narrow normal at each of S places: batch shape (S,), event shape (D,)."""
    return Independent(Normal(torch.tensor(places), sigma), 1)


def two_modes(rows: int) -> MixtureSameFamily:
    """Two modes in the plane, at (±0.5, 0), in each of `rows` states."""
    places = torch.tensor([[0.5, 0.0], [-0.5, 0.0]]).expand(rows, 2, 2)
    return MixtureSameFamily(Categorical(torch.ones(rows, 2)), Independent(Normal(places, 0.1), 1))


def cvae(rows: int, dims: int):
    torch.manual_seed(0)
    density = make_density("cvae", context_dim=2, event_dim=dims, squash=True)
    return density(torch.zeros(rows, 2)), density


@pytest.mark.parametrize("value", [normal((0.2,), (0.0,)), two_modes(2)])
def test_the_drawn_density_integrates_to_one(value):
    dims = value.event_shape[0]
    density = grid_density(value, np.full(dims, -1.0), np.full(dims, 1.0), cells=120)
    assert density.shape == (2, *[120] * dims)
    volume = (2.0 / 120) ** dims
    np.testing.assert_allclose(density.reshape(2, -1).sum(-1) * volume, 1.0, rtol=0, atol=1e-3)


def test_the_lower_bound_of_a_cvae_integrates_to_less_than_one_but_not_much():
    value, _ = cvae(1, 1)
    mass = grid_density(value, np.array([-1.0]), np.array([1.0]), cells=400, k=32).sum() * 2 / 400
    assert 0.7 < mass < 1.02, mass


def test_the_first_action_runs_to_the_right_and_the_second_up():
    figure = density_figure(normal((0.5, -0.5)), -1.0, 1.0)
    (image,) = figure.axes[0].images
    shown = np.asarray(image.get_array())
    row, column = np.unravel_index(shown.argmax(), shown.shape)
    assert image.origin == "lower"
    assert (column / shown.shape[1], row / shown.shape[0]) == pytest.approx((0.75, 0.25), abs=0.02)


def test_pairwise_blocks_lie_at_the_column_of_one_and_the_row_of_the_other_dimension():
    figure = density_figure(normal((0.5, -0.5, 0.0), sigma=0.03), -1.0, 1.0, cells=10)
    (image,) = figure.axes[0].images
    mosaic = np.asarray(image.get_array().filled(np.nan))
    block = mosaic[13:23, 1:11]  # row of a2, column of a1, each block 10 cells in a gap of 1
    row, column = np.unravel_index(block.argmax(), block.shape)
    assert image.origin == "upper"
    assert column in (7, 8) and 10 - 1 - row in (1, 2, 3), (row, column)
    assert np.isnan(mosaic[1:11, 13:23]).all(), "above the diagonal nothing is drawn"


@pytest.mark.parametrize("density", ["gaussian", "cvae"])
def test_a_policy_is_drawn_in_the_units_of_its_actions(density):
    agent = SAC(density, "Pendulum-v1", seed=0, buffer_size=10)
    value = PolicyDensity(agent, np.array([[1.0, 0.0, 0.5]], np.float32))
    low, high = np.array([-2.0]), np.array([2.0])
    drawn = grid_density(value, low, high, cells=400)[0]
    np.testing.assert_allclose(drawn.sum() * 4 / 400, 1.0, rtol=0, atol=0.01)
    counts, _ = np.histogram(sample_rows(value, 40_000)[0], bins=20, range=(-2, 2), density=True)
    np.testing.assert_allclose(drawn.reshape(20, 20).mean(-1), counts, rtol=0, atol=0.03)
    assert how_drawn(value) == (
        "exact density" if density == "gaussian" else "mean over 1024 codes"
    )


def test_of_many_dimensions_the_six_that_vary_most_are_projected():
    scales = torch.tensor([0.01, 0.2, 0.2, 0.2, 0.01, 0.2, 0.2, 0.2])
    value = Independent(Normal(torch.zeros(1, 8), scales), 1)
    axes = density_figure(value, -1.0, 1.0, samples=500).axes[0]
    shown = [tick.get_text() for tick in axes.get_xticklabels()]
    assert shown == ["a2", "a3", "a4", "a6", "a7", "a8"]


def test_a_row_shares_its_colour_scale_and_rows_do_not():
    spread = torch.tensor([[0.1], [0.4]]).expand(2, 2)
    wide = Independent(Normal(torch.zeros(2, 2), torch.tensor(0.5)), 1)
    narrow = Independent(Normal(torch.zeros(2, 2), spread), 1)
    figure = density_figure([wide, narrow], -1.0, 1.0, ["wide", "narrow"])
    norms = [ax.images[0].norm for ax in figure.axes if ax.images]
    assert norms[0] is norms[1] and norms[2] is norms[3]
    assert norms[0].vmax > 10 * norms[2].vmax, "the first row holds a peak 16 times as high"


def test_a_panel_says_whether_it_is_exact_or_a_bound():
    assert how_drawn(two_modes(1)) == "exact density"
    assert how_drawn(cvae(1, 2)[0], k=7) == "lower bound, k = 7"
    assert how_drawn(cvae(1, 3)[0]) == "samples"


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_drawing_changes_no_random_stream_no_setting_and_no_gradient(dims):
    value, density = cvae(2, dims)
    before, settings = torch.get_rng_state(), dict(matplotlib.rcParams)
    density_figure(value, -1.0, 1.0, cells=10, samples=50, k=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert dict(matplotlib.rcParams) == settings
    assert all(parameter.grad is None for parameter in density.parameters())


def test_the_same_policy_gives_the_same_picture():
    value, _ = cvae(2, 2)
    low, high = np.full(2, -1.0), np.full(2, 1.0)
    samples, density = sample_rows(value, 20), grid_density(value, low, high, cells=4, k=3)
    torch.manual_seed(1)
    np.testing.assert_array_equal(samples, sample_rows(value, 20))
    np.testing.assert_array_equal(density, grid_density(value, low, high, cells=4, k=3))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"values": []}, "values: got none"),
        ({"values": [two_modes(1), two_modes(2)]}, "expected the same"),
        ({"low": 1.0}, "expected finite low < high"),
        ({"high": [1.0, 1.0, 1.0]}, r"shape \(2,\)"),
        ({"titles": ["a", "b"]}, "titles: got 2"),
    ],
)
def test_bad_density_pictures_are_refused_in_one_line(change, words):
    arguments = {"values": two_modes(1), "low": -1.0, "high": 1.0} | change
    with pytest.raises(ValueError, match=words) as caught:
        density_figure(**arguments)
    assert "\n" not in str(caught.value)


def curve(values, steps=None, density="cvae", agent="sac") -> Curve:
    values = np.asarray(values, float)
    steps = np.arange(len(values), dtype=float) if steps is None else np.asarray(steps, float)
    return Curve(agent, density, "run", steps, values)


def test_smoothing_keeps_lines_straight_and_takes_noise_away():
    line = np.linspace(0.0, 1.0, 400)
    noise = np.random.default_rng(0).normal(size=400)
    np.testing.assert_allclose(smooth(line)[10:-10], line[10:-10], rtol=0, atol=1e-12)
    assert smooth(noise).std() < 0.5 * noise.std()


def test_the_band_is_students_interval_over_seeds_up_to_the_step_all_have_reached():
    runs = [curve([1.0] * 5), curve([2.0] * 5), curve([6.0] * 4)]
    steps, mean, low, high = over_seeds(runs)
    assert (steps[0], steps[-1]) == (0.0, 3.0)
    expected = student_t.ppf(0.975, 2) * np.std([1, 2, 6], ddof=1) / np.sqrt(3)
    np.testing.assert_allclose(mean, 3.0)
    np.testing.assert_allclose(high - mean, expected)
    np.testing.assert_allclose(mean - low, expected)


def test_seeds_are_averaged_by_agent_and_density():
    others = [curve([5, 5], density="gaussian"), curve([1], agent="ppo")]
    runs = [curve([0, 1]), curve([0, 3]), *others]
    figure = curve_figure(runs, ylabel="return")
    labels = [line.get_label() for line in figure.axes[0].lines if line.get_label()[0] != "_"]
    assert labels == ["ppo · cvae", "sac · gaussian", "sac · cvae (2 seeds)"]
    thick = figure.axes[0].lines[-1]
    assert thick.get_ydata()[-1] == pytest.approx(2.0)
    assert thick.get_color() == density_color("cvae") != density_color("gaussian")


def test_what_is_not_a_finite_number_is_not_drawn():
    rows = [{"global_step": i, "x": x} for i, x in enumerate([1.0, float("nan"), "3", True, 5])]
    found = curve_of(rows, "x", agent="sac", density="cvae", label="run")
    assert found is not None and found.values.tolist() == [1.0, 5.0]
    assert curve_of(rows, "y", agent="sac", density="cvae", label="run") is None


def test_shares_count_every_episode_once():
    shares = goal_shares([0, 0, 3, -1], 4)
    assert shares.tolist() == [0.5, 0.0, 0.0, 0.25, 0.25]
    figure = goal_share_figure([0, 0, 3, -1], 4, density="cvae")
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == shares.tolist()
    assert figure.axes[0].lines[0].get_ydata()[0] == 0.25, "the uniform share is marked"


def test_a_band_is_drawn_from_three_seeds_on():
    def bands(seeds: int) -> int:
        runs = [curve([0.0, float(seed)]) for seed in range(seeds)]
        return len(curve_figure(runs, ylabel="return").axes[0].collections)

    assert [bands(1), bands(2), bands(3)] == [0, 0, 1]


def test_seeds_that_share_no_steps_are_drawn_each_and_not_averaged():
    runs = [curve([1.0, 1.0], [0, 5]), curve([3.0], [9])]
    (axes,) = curve_figure(runs, ylabel="return").axes
    drawn = [line.get_ydata().tolist() for line in axes.lines]
    assert drawn == [[1.0, 1.0], [3.0]] and len({line.get_linewidth() for line in axes.lines}) == 1


@pytest.mark.parametrize("goals", [[4], [-2], []])
def test_goals_that_are_none_are_refused(goals):
    with pytest.raises(ValueError, match=r"goals: got .* −1 … 3"):
        goal_share_figure(goals, 4)


def test_roll_outs_have_the_colour_of_their_goal_and_stay_on_the_map():
    env = MultiGoalEnv()
    traces = [np.array([[0.0, 0.0], [1.0, 0.0], [5.0 + i, 0.0]]) for i in range(MAX_TRACES + 5)]
    goals = [2, -1] + [0] * (MAX_TRACES + 3)
    (axes,) = rollout_figure([Rollouts(traces, goals)], env).axes
    lines = axes.collections[-2]
    assert len(lines.get_segments()) == MAX_TRACES
    drawn = [matplotlib.colors.to_hex(color) for color in lines.get_colors()[:3]]
    assert drawn[0] == drawing.goal_color(2) and drawn[2] == drawing.goal_color(0) != drawn[1]
    assert axes.get_xlim() == (-7.0, 7.0), "the map sets the limits"


def test_roll_outs_of_one_step_are_dots():
    once = Rollouts([np.array([[0.0, 0.0], [1.0, 2.0]])], [0])
    (axes,) = rollout_figure([once], MultiGoalEnv()).axes
    segments = [c for c in axes.collections if c.get_rasterized()]
    assert len(segments) == 1 and segments[0].get_offsets().tolist() == [[1.0, 2.0]]


def test_roll_outs_without_their_goals_are_refused():
    with pytest.raises(ValueError, match="goals: got 1 for 2 roll-outs"):
        rollout_figure([Rollouts([np.zeros((3, 2))] * 2, [0])], MultiGoalEnv())


def test_markup_is_self_contained_and_its_names_are_its_own():
    figure = density_figure(two_modes(2), -1.0, 1.0, ["<b> & $x$"], names=["cvae"])
    markup = svg_markup(figure, 'says "<b>"', "p7")
    assert markup.startswith("<svg ") and markup.rstrip().endswith("</svg>")
    assert "http" not in markup and "<b>" not in markup and "&lt;b&gt; &amp; $x$" in markup
    names = re.findall(r'\bid="([^"]*)"', markup)
    assert len(names) == len(set(names)) and all(name.startswith("p7-") for name in names)
    used = re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', markup)
    assert {a or b for a, b in used} <= set(names)
    color = density_color("cvae")
    assert f"var(--c-{color[1:]}, {color})" in markup
    assert not re.search(rf"(?<!, ){color}", markup), "every colour follows the page's theme"
    assert set(map(str.lower, DARK_COLORS)) == set(DARK_COLORS)


def test_a_colour_that_comes_again_has_another_marker() -> None:
    """So twice as many groups as colours can be told apart."""
    numbers = range(2 * len(COLORS))
    assert len({(COLORS[n % len(COLORS)], _marker(n)) for n in numbers}) == len(numbers)
