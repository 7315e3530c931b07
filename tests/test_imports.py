"""Importing vaerl is light and leaves other libraries, the network and the random state alone."""

from __future__ import annotations

import json
import subprocess
import sys
import time

HEAVY = ("torch", "stable_baselines3", "wandb", "matplotlib", "tensorboard", "scipy", "mujoco")

# Run in a child process. Loads the libraries, takes a picture of their settings, imports every
# module of vaerl and builds each density, and prints what changed and which hosts were asked for.
CHILD = """
import json, logging, os, pkgutil, random, signal, sys, warnings
import matplotlib, numpy, torch

def settings():
    return {
        "validate_args": torch.distributions.Distribution._validate_args,
        "threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
        "dtype": str(torch.get_default_dtype()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "grad": torch.is_grad_enabled(),
        "anomaly": torch.is_anomaly_enabled(),
        "matmul": torch.get_float32_matmul_precision(),
        "torch_rng": torch.get_rng_state().sum().item(),
        "numpy_rng": str(numpy.random.get_state()[1][:4]),
        "python_rng": hash(random.getstate()),
        "errstate": numpy.geterr(),
        "print": str(sorted(numpy.get_printoptions().items())),
        "root_handlers": len(logging.getLogger().handlers),
        "root_level": logging.getLogger().level,
        "backend": matplotlib.rcParams["backend"],
        "style": hash(str({k: v for k, v in matplotlib.rcParams.items() if k != "backend"})),
        "filters": [str(f) for f in warnings.filters if "vaerl" in str(f)],
        "signals": str([signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]),
        "environ": dict(os.environ),
        "recursion": sys.getrecursionlimit(),
    }

asked = []
def audit(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "urllib.Request"):
        asked.append(event)

# (rich draws a random number when it is imported)
import gymnasium, rich.progress, stable_baselines3, tensorboard, typer, wandb
from torch.utils import tensorboard as _
before = settings()
sys.addaudithook(audit)
import vaerl
for module in pkgutil.walk_packages(vaerl.__path__, "vaerl."):
    native = module.name.startswith("vaerl.native._")  # libraries in C++, no modules
    if not (native or module.name.endswith("__main__")):
        __import__(module.name)
after_import = settings()
for name in vaerl.densities.density_names():
    vaerl.make_density(name, context_dim=2, event_dim=1)
after = settings()
after["torch_rng"] = before["torch_rng"]  # initial weights are drawn from torch's generator
changed = {k: [before[k], s[k]] for s in (after_import, after) for k in before if before[k] != s[k]}
if "environ" in changed:  # the names only: values may be secrets
    changed["environ"] = sorted({k for k, _ in set.symmetric_difference(
        *(set(e.items()) for e in changed["environ"]))})
print(json.dumps({"changed": changed, "asked": asked}, default=str))
"""


def child(code: str) -> str:
    """Run `code` in a fresh interpreter and return what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_importing_everything_changes_nothing_elsewhere() -> None:
    """No module of vaerl touches torch's, numpy's, matplotlib's, logging's or Python's settings,
    draws random numbers or asks the network for anything at import."""
    result = json.loads(child(CHILD).splitlines()[-1])
    assert result["changed"] == {}
    assert result["asked"] == []


def test_import_vaerl_is_light() -> None:
    """`import vaerl` registers the environments and loads none of the heavy libraries."""
    code = f"""
import sys, gymnasium, vaerl
assert "vaerl/MultiGoal-v0" in gymnasium.registry, "the environments are not registered"
print(*[name for name in {HEAVY!r} if name in sys.modules])
"""
    assert child(code).split() == []


def test_subpackages_load_on_first_use() -> None:
    """`vaerl.densities` and `vaerl.make_density` work after a plain `import vaerl`."""
    code = """
import vaerl
assert set(vaerl.__all__) <= set(dir(vaerl))
print(vaerl.make_density is vaerl.densities.make_density)
try:
    vaerl.density
except AttributeError as error:
    print("densities" in str(error))
"""
    assert child(code).split() == ["True", "True"]


def test_help_is_quick() -> None:
    """`vaerl --help` costs little more than the two light libraries it stands on."""

    def seconds(code: str) -> float:
        start = time.perf_counter()
        child(code)
        return time.perf_counter() - start

    bare = "import gymnasium, typer"
    cli = "import sys; sys.argv = ['vaerl', '--help']; from vaerl.cli import main; main()"
    floor = min(seconds(bare) for _ in range(3))
    spent = min(seconds(cli) for _ in range(3))
    assert spent < 2.5 * floor + 0.5, f"--help took {spent:.2f} s; the bare imports {floor:.2f} s"
