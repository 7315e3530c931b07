"""The five folders are one package: the map in pyproject, the symlinks and the wheel agree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOP_FOLDERS = ("agents", "envs", "experiments")


def compiled(name: str) -> bool:
    """Whether it is a library of the native update, which installing builds where it can."""
    return Path(name).suffix in (".so", ".pyd")


def files_of_the_tree() -> set[str]:
    """Every module and data file of the package, under the name it has once installed."""
    found = set()
    for folder in ("vaerl", *TOP_FOLDERS):
        for directory, _, names in os.walk(ROOT / folder):  # os.walk does not enter symlinks
            for name in names:
                relative = Path(directory, name).relative_to(ROOT).as_posix()
                parts = relative.split("/")  # records and their pages stay in the repository
                if not {"__pycache__", "results", "README.md"} & set(parts) and not compiled(name):
                    found.add(relative if folder == "vaerl" else f"vaerl/{relative}")
    return found


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in a wheel built from an sdist of a copy of the tree, without any download."""
    work = tmp_path_factory.mktemp("wheel")
    copy = work / "copy"
    copy.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("vaerl", *TOP_FOLDERS):
        ignore = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignore)
    quick = (copy / "setup.py").read_text().replace('"-O3"', '"-O0"')  # nothing is run
    (copy / "setup.py").write_text(quick)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(work / "dist")]
    done = subprocess.run([*command, str(copy)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (wheel,) = (work / "dist").glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_wheel_holds_exactly_the_files_of_the_tree(wheel_names: set[str]) -> None:
    """Every module and data file of the five folders is in the wheel, and nothing besides."""
    packed = {name for name in wheel_names if ".dist-info/" not in name and not compiled(name)}
    tree = files_of_the_tree()
    assert packed == tree, {"missing": sorted(tree - packed), "extra": sorted(packed - tree)}


@pytest.mark.skipif(not shutil.which("g++"), reason="no compiler")
def test_wheel_holds_the_native_update(wheel_names: set[str]) -> None:
    """Built from the sdist, headers and all, as `pip install` does where there is a compiler."""
    assert any(re.fullmatch(r"vaerl/native/_base\..*\.so", name) for name in wheel_names)


def test_wheel_owns_one_top_level_name(wheel_names: set[str]) -> None:
    """Installing vaerl never puts `agents`, `envs` or `experiments` beside other packages."""
    tops = {name.split("/")[0] for name in wheel_names if ".dist-info/" not in name}
    assert tops == {"vaerl"}


@pytest.mark.parametrize("folder", ["agents", "envs"])
def test_agents_and_envs_stay_flat(folder: str) -> None:
    """One algorithm or environment is one file; an experiment is a folder."""
    inside = [p.name for p in (ROOT / folder).iterdir() if p.is_dir() and p.name != "__pycache__"]
    assert inside == []


@pytest.mark.parametrize("folder", TOP_FOLDERS)
def test_symlinks_point_at_the_top_folders(folder: str) -> None:
    """`vaerl/agents` and its sisters are relative symlinks, so that they survive any clone."""
    link = ROOT / "vaerl" / folder
    assert link.is_symlink()
    assert os.readlink(link) == f"../{folder}"


@pytest.mark.parametrize("folder", TOP_FOLDERS)
def test_subpackage_is_importable_from_anywhere(folder: str, tmp_path: Path) -> None:
    """The editable install maps vaerl.agents to the folder at the top, whatever the directory."""
    code = f"import vaerl.{folder} as m; print(m.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()).resolve() == ROOT / folder / "__init__.py"
