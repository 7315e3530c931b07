"""The report: one file that opens anywhere, says what it shows, and says what it lacks."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

from vaerl.agents import PPO, SAC
from vaerl.checkpoint import save_checkpoint
from vaerl.disk import jsonio
from vaerl.envs.making import make_env
from vaerl.report import policies, policy_density, report
from vaerl.runs import RunDirectory

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")


def log(run: RunDirectory, *, latent: bool, steps: int = 2000, level: float = 0.0) -> None:
    lines = []
    for step in range(200, steps + 1, 200):
        row = {"time": step / 100, "rollout/ep_rew_mean": level + step / steps}
        row["train/ent_coef"] = 0.1
        if latent:
            row |= {"latent/bound_gap": 100 / step, "latent/kl_layer_1": 1.0}
        lines.append(jsonio.dumps({"global_step": step, **row}) + "\n")
    run.metrics_path.write_text("".join(lines))


def make_run(
    folder: Path, env: str, density: str, seed: int = 0, *, name: str = "", trained: bool = True
) -> RunDirectory:
    """A run of 2000 steps as `vaerl train` leaves it, or one still going without `trained`."""
    config = {"env": env, "agent": "sac", "density": density, "seed": seed, "steps": 2000}
    run = RunDirectory(folder / (name or f"{density}-{env.split('/')[-1]}-{seed}")).create(config)
    log(run, latent=density == "cvae", level=float(seed))
    if not trained:
        run.set_status("running", 2000)
        return run
    agent = SAC(density, env, seed=seed, buffer_size=10, policy_kwargs={"net_arch": [8]})
    save_checkpoint(agent, run.checkpoints_path)
    run.set_status("finished", 2000, train_seconds=40.0)
    return run


def add_evaluation(run: RunDirectory, mean: float, goals: list[int]) -> None:
    figures = {
        "episodes": len(goals),
        "num_modes": 4,
        "goals": goals,
        "return_mean": mean,
        "return_std": 5.0,
        "goals_reached": 2.0,
        "multi_goal_score": 0.5,
        "multi_goal_score_ceiling": 0.978,
    }
    data = {"step": 2000, "stochastic": figures, "deterministic": {"return_mean": mean - 1}}
    (run.path / "evaluation.json").write_text(json.dumps(data))


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[RunDirectory]:
    """Two densities on a map, one with two seeds; 1-D actions; a run that has only begun."""
    folder = tmp_path_factory.mktemp("runs")
    goal = "vaerl/MultiGoal-v0"
    found = [
        make_run(folder, goal, "gaussian"),
        make_run(folder, goal, "cvae"),
        make_run(folder, goal, "cvae", 1, trained=False),
        make_run(folder, "Pendulum-v1", "cvae"),
    ]
    add_evaluation(found[1], -120.0, [0, 0, 3, 3] * 250)
    return found


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policies, "EPISODES", 4)
        patch.setattr(policies, "PROBE_STATES", 2)
        patch.setattr(policy_density, "CODES", 64)
        return report(runs, tmp_path_factory.mktemp("report") / "new" / "report.html")


def words(path: Path) -> str:
    """What the page says, without its pictures."""
    text = re.sub(r"<(style|svg|script).*?</\1>", " ", path.read_text(), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


def titles(path: Path) -> list[str]:
    return [html.unescape(t) for t in re.findall(r"<h[23]>(.*?)</h[23]>", path.read_text())]


def test_the_file_refers_to_nothing_outside_itself(page):
    text = page.read_text()
    assert "http:" not in text and "https:" not in text and "<script" not in text
    targets = re.findall(r'(?:href|src)="([^"]*)"', text) + re.findall(r"url\(([^)]*)\)", text)
    assert targets and all(target.startswith(("#", "data:")) for target in targets)


def test_there_is_a_block_per_environment_with_the_sections_it_can_fill(page):
    found = titles(page)
    split = found.index("vaerl/MultiGoal-v0")
    assert found[:2] == ["Summary", "Pendulum-v1"] and found[-1] == "Configuration and versions"
    common = ["Learning curves", "Policy density at chosen states"]
    latent = ["Bound gap and latent diagnostics", "Entropy and temperature"]
    assert found[2:split] == [*common, *latent]
    assert found[split + 1 : -1] == [*common, "Roll-outs over the map", "Goal shares", *latent]


def test_every_picture_has_words_for_those_who_do_not_see_it(page):
    pictures = re.findall(r"<svg [^>]*>", page.read_text())
    assert len(pictures) > 10
    assert all(re.search('role="img" aria-label="[^"]{10,}"', picture) for picture in pictures)


def test_the_summary_holds_the_evaluation_with_its_ceiling(page):
    said = words(page)
    assert "−120.0 ± 5.0 1,000 episodes; best actions −121.0" in said
    assert "2 of 4 0.500 ceiling 0.978" in said
    assert "40 s 50 steps / s" in said


def test_seeds_are_averaged_with_their_interval(runs, tmp_path):
    several = [make_run(tmp_path, "none/Gone-v0", "flow", s, trained=False) for s in range(3)]
    said = words(report(several, tmp_path / "seeds.html"))
    # 1, 2, 3 at the end: mean 2, t(0.975, 2) / √3 = 2.484
    assert "sac flow 3 2,000 2.00 ± 2.48" in said


def test_what_is_missing_is_said_in_one_line(page):
    notes = re.findall(r'<p class="note">(.*?)</p>', page.read_text())
    assert any("cvae · seed 1: the policy cannot be shown." in note for note in notes), notes
    assert all("\n" not in note for note in notes)
    assert "2,000 running, of 2,000" in words(page)


def test_one_unfinished_run_alone_makes_a_report(runs, tmp_path):
    path = report(str(runs[2].path), tmp_path / "one.html")
    latent = ["Bound gap and latent diagnostics", "Entropy and temperature"]
    first = ["Summary", "vaerl/MultiGoal-v0", "Learning curves", "Policy density at chosen states"]
    assert titles(path) == [*first, *latent, "Configuration and versions"]
    assert "1 run on vaerl/MultiGoal-v0" in words(path)


def test_a_run_that_has_logged_nothing_is_reported_as_such(tmp_path):
    config = {"env": "none/Gone-v0", "agent": "sac", "density": "mine", "steps": 100}
    run = RunDirectory(tmp_path / "a<b>").create(config)
    path = report(run, tmp_path / "r.html")
    assert "mine has not logged a return yet" in words(path)
    assert "running, of 100" in words(path)
    assert "<b>" not in path.read_text() and "a<b>" in words(path)


def test_a_module_that_a_run_names_is_not_imported(tmp_path, monkeypatch):
    """gymnasium.make would import `outside` for the id "outside:Name-v0"."""
    (tmp_path / "outside.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    run = make_run(tmp_path, "Pendulum-v1", "gaussian")
    config = json.loads(run.config_path.read_text()) | {"env": "outside:Pendulum-v1"}
    run.config_path.write_text(json.dumps(config))
    said = words(report(run, tmp_path / "r.html"))
    assert "the policy cannot be shown. env: got 'outside:Pendulum-v1'" in said
    with pytest.raises(gymnasium.error.Error):
        make_env("outside:Pendulum-v1")
    assert "outside" not in sys.modules


def test_draws_that_leave_the_action_box_are_said(page, tmp_path, monkeypatch):
    said = "of its draws leave the action box and are clipped"
    assert said not in words(page), "a squashed policy stays inside"
    monkeypatch.setattr(policies, "EPISODES", 2)
    env = "vaerl/MultiGoal-v0"
    config = {"env": env, "agent": "ppo", "density": "gaussian", "steps": 2000}
    run = RunDirectory(tmp_path / "ppo").create(config)
    agent = PPO("gaussian", env, n_steps=8, batch_size=8)
    save_checkpoint(agent, run.checkpoints_path)
    share = re.search(rf"gaussian: (\d+)% {said}", words(report(run, tmp_path / "ppo.html")))
    assert share is not None and 45 < int(share[1]) < 62  # unit normal: 1 − 0.683² = 0.534


def test_settings_in_which_runs_differ_stand_side_by_side(page):
    said = words(page)
    assert "Settings in which the runs differ. run env density seed" in said
    assert "Package versions of each run." in said


def test_a_faulty_row_of_the_log_is_left_out_and_named(tmp_path, capsys):
    run = make_run(tmp_path, "E-v0", "cvae", trained=False)
    run.metrics_path.write_text('{"global_step": 1}\n{"global_step": oops}\n')
    assert report([run], tmp_path / "r.html").is_file()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("left out 1 rows: ") and "metrics.jsonl:2: not JSON" in line


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: [], "runs: got none, expected at least one"),
        (lambda folder: [folder / "nothing"], "runs: no such run"),
        (lambda folder: [folder], "is not a run: it has no config.json"),
        (
            lambda folder: [RunDirectory(folder / "r").create({"env": "E-v0"})],
            r"runs: .*config\.json: config field agent: missing",
        ),
    ],
)
def test_what_cannot_be_reported_is_named_in_one_line(make, says, tmp_path):
    out = tmp_path / "r.html"
    with pytest.raises(ValueError, match=says) as caught:
        report(make(tmp_path), out)
    assert "\n" not in str(caught.value) and not out.exists()


def test_a_folder_is_no_place_for_a_report(runs, tmp_path):
    with pytest.raises(ValueError, match=r"out: got the folder"):
        report(runs, tmp_path)


CHECK = """<script>
window.problems = [];
window.onerror = (message) => window.problems.push(String(message));
const sizes = [...document.querySelectorAll("svg image")].map((node) => {
  const image = new Image(); image.src = node.getAttribute("href"); return image;
});
window.addEventListener("load", () => {
  const boxes = [...document.querySelectorAll("svg")].map((s) => s.getBoundingClientRect());
  const fetched = performance.getEntriesByType("resource").map((e) => e.name);
  document.documentElement.dataset.result = JSON.stringify({
    problems: window.problems,
    pictures: boxes.length,
    flat: boxes.filter((b) => b.width < 50 || b.height < 50).length,
    images: sizes.length,
    empty: sizes.filter((i) => i.naturalWidth * i.naturalHeight === 0).length,
    fetched: fetched.filter((name) => !name.startsWith("data:")),
    wide: document.documentElement.scrollWidth - window.innerWidth,
  });
});
</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [1200, 500])
def test_a_browser_shows_every_picture_and_asks_for_nothing(page, width, tmp_path):
    checked = tmp_path / "checked.html"
    checked.write_text(page.read_text().replace("</body>", CHECK))
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run"
    flags += " --disable-background-networking --disable-component-update --disable-sync --dump-dom"
    command = [CHROMIUM, *flags.split(), f"--window-size={width},900"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", checked.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, env={**os.environ})
    found = re.search(r'data-result="(.*?)"', done.stdout)
    assert found, done.stderr[-500:]
    result = json.loads(html.unescape(found[1]))
    assert result["problems"] == [] and result["fetched"] == []
    assert result["pictures"] > 10 and result["images"] > 5
    assert result["flat"] == result["empty"] == 0, result
    assert result["wide"] <= 0, "nothing sticks out of the window"
