"""What a new density, agent, tracker or experiment costs, inside the package and from outside."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = {
    "toy_density.py": '''
        """A density of another package."""

        import torch
        from torch import nn

        from vaerl.densities import ConditionalDensity, ConditionalValue

        class Laplace(ConditionalValue):
            def __init__(self, mean, scale):
                super().__init__(mean.shape[:-1], mean.shape[-1])
                self.middle, self.scale = mean, scale

            def rsample(self, sample_shape=(), generator=None):
                u = torch.rand((*sample_shape, *self.middle.shape), generator=generator) - 0.5
                return self.middle - self.scale * u.sign() * torch.log1p(-1.999 * u.abs())

            def log_prob(self, x):
                return -((x - self.middle).abs() / self.scale + (2 * self.scale).log()).sum(-1)

            def mode(self, n=32):
                return self.middle

        class Toy(ConditionalDensity):
            """Laplace density of the toy package."""

            name = "toy"

            def __init__(self, context_dim, event_dim):
                super().__init__(context_dim, event_dim)
                self.net = nn.Linear(context_dim, 2 * event_dim)

            def _value(self, context):
                mean, raw = self.net(context).chunk(2, -1)
                return Laplace(mean, nn.functional.softplus(raw) + 1e-3)
    ''',
    "toy_agent.py": '''
        """An agent of another package."""

        from typing import Any, ClassVar

        from vaerl.agents import SAC

        class Toy(SAC):
            """SAC of the toy package."""

            debug_options: ClassVar[dict[str, Any]] = {**SAC.debug_options, "batch_size": 8}
            env_defaults: ClassVar[dict[str, Any]] = {"toy/": {"gamma": 0.5}}
    ''',
    "toy_tracker.py": '''
        """A tracker of another package."""

        from vaerl.track import Tracker

        class Toy(Tracker):
            """Writes the keys that were logged."""

            def __init__(self, folder):
                self.folder, self.keys = folder, set()

            @classmethod
            def for_run(cls, folder, config):
                return cls(folder / "toy")

            def log(self, values, step):
                self.keys |= set(values)

            def finish(self):
                self.folder.mkdir()
                (self.folder / "keys").write_text(" ".join(sorted(self.keys)))
    ''',
    "toy_experiment/__init__.py": '''
        """An experiment of another package."""

        def run(out, factors: list[int] | None = None):
            """Multiplies factors.

            Args:
                out: a file.
                factors: numbers.
            """
            product = 1
            for factor in factors or []:
                product *= factor
            out.mkdir(parents=True)
            (out / "product").write_text(str(product))
            return out
    ''',
    "toy_env.py": '''
        """An environment of another package."""

        import gymnasium
        import numpy as np

        class Walk(gymnasium.Env):
            observation_space = action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

            def reset(self, *, seed=None, options=None):
                super().reset(seed=seed)
                self.steps = 0
                return np.zeros(1, np.float32), {}

            def step(self, action):
                self.steps += 1
                reward = float(action[0])
                return np.asarray(action, np.float32), reward, False, self.steps == 20, {}
    ''',
    "toy-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n",
    "toy-1.0.dist-info/entry_points.txt": """
        [vaerl.densities]
        toy = toy_density:Toy
        broken = toy_that_is_missing:Toy
        [vaerl.agents]
        toy = toy_agent:Toy
        sac = toy_agent:Toy
        [vaerl.trackers]
        toy = toy_tracker:Toy
        [vaerl.experiments]
        toy = toy_experiment:run
        [vaerl.envs]
        toy/Walk-v0 = toy_env:Walk
        no_id! = toy_env:Walk
    """,
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder on the path with the toy package as an installer leaves it."""
    folder = tmp_path_factory.mktemp("site")
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        lines = text.strip("\n").splitlines()
        indent = len(lines[0]) - len(lines[0].lstrip())
        path.write_text("\n".join(line[indent:] for line in lines) + "\n")
    return folder


def vaerl(installed: Path, *commands: str) -> tuple[str, str]:
    """Run commands in one process that has the toy package; return its stdout and stderr."""
    code = (
        "import shlex, sys\n"
        "from vaerl.cli import app\n"
        "for words in sys.argv[1:]:\n"
        "    app(shlex.split(words), standalone_mode=False)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *commands],
        capture_output=True,
        text=True,
        cwd=installed,
        env={**os.environ, "PYTHONPATH": f"{installed}{os.pathsep}{ROOT}"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_lists_show_what_other_packages_add(installed: Path) -> None:
    """One line each; what cannot be loaded or named says so instead of stopping the list."""
    kinds = ("densities", "agents", "trackers", "experiments", "envs")
    printed, warnings = vaerl(installed, *(f"list {kind}" for kind in kinds))
    lines = printed.splitlines()
    found = [line.split(maxsplit=1)[1] for line in lines if line.startswith("toy ")]
    assert found == [
        "Laplace density of the toy package.",
        "SAC of the toy package.",
        "Writes the keys that were logged.",
        "Multiplies factors.",
    ]
    (broken,) = (line for line in lines if line.startswith("broken "))
    assert "'toy_that_is_missing:Toy' cannot be loaded: ModuleNotFoundError" in broken
    assert sum(line.startswith("sac ") for line in lines) == 1
    assert "agent 'sac' of 'toy_agent:Toy' is ignored: the name is taken" in warnings
    assert "environment 'toy_env:Walk' is ignored" in warnings
    assert ["toy/Walk-v0", "toy_env"] in [line.split() for line in lines]


def test_what_other_packages_add_trains(installed: Path) -> None:
    """A density, an agent, a tracker and an environment in one run; the density in PPO as well."""
    small = """--agent-option 'policy_kwargs={"net_arch": [8]}' --no-video --no-progress"""
    vaerl(
        installed,
        f"train toy --env toy/Walk-v0 --density toy --track toy --debug --out run {small}",
        "eval run --episodes 1",
        f"train ppo --env toy/Walk-v0 --density toy --debug --out other {small}",
        "experiment toy --factors 2,3 --factors 7",
    )
    config = (installed / "run" / "config.json").read_text()
    assert '"agent": "toy"' in config and '"gamma": 0.5' in config and '"batch_size": 8' in config
    assert "train/critic_loss" in (installed / "run" / "toy" / "keys").read_text()
    assert (installed / "runs" / "toy" / "product").read_text() == "42"


@pytest.mark.parametrize(
    ("name", "legal"),
    [
        ("flow", {"vaerl/densities/flow.py", "vaerl/densities/registry.py"}),
        ("mpc", {"agents/mpc.py", "agents/__init__.py"}),
        ("mbpo", {"agents/mbpo.py", "agents/__init__.py"}),
        ("wandb", {"vaerl/track/wandb.py", "vaerl/track/__init__.py"}),
        ("mppi", {"vaerl/planning/planners.py", "vaerl/planning/registry.py"}),
    ],
)
def test_a_name_is_known_to_its_own_file_and_to_its_registry(name: str, legal: set[str]) -> None:
    """No table of names elsewhere; figures have a palette, and colours to spare for other names."""
    found = set()
    for top in ("vaerl", "agents", "envs"):
        for path in (ROOT / top).rglob("*.py"):  # does not follow the links in vaerl/
            place = path.relative_to(ROOT).as_posix()
            constants = (n.value for n in ast.walk(ast.parse(path.read_text())) if is_text(n))
            if name in constants and not place.startswith(("vaerl/report/", "vaerl/lab/bench/")):
                found.add(place)
    assert found <= legal


def is_text(node: ast.AST) -> bool:
    """Whether a node of a source is a literal text."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_contributing_lists_the_files() -> None:
    """Every file that the page on the cost of change names exists."""
    _, _, text = (ROOT / "CONTRIBUTING.md").read_text().partition("## Cost of change\n")
    section = text.partition("\n## ")[0]
    names = [word for word in section.split("`")[1::2] if "/" in word and "NAME" not in word]
    assert len(names) >= 8
    assert [name for name in names if not (ROOT / name).exists()] == []
