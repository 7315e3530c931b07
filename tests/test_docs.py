"""The documentation runs: its Python blocks, its commands, its numbers."""

from __future__ import annotations

import functools
import pkgutil
import re
import shlex
import warnings
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import pytest
import torch
import typer.main
from typer.testing import CliRunner

from vaerl.cli import app
from vaerl.experiments import EXPERIMENTS

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NUMBER = re.compile(r"(?<![\w.,])[-−]?(?:\d[\d,]*)?\.?\d+(?: ± [\d.]+)?")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(page: Path, *languages: str) -> Iterator[tuple[int, str]]:
    """The fenced blocks of a page in these languages, with the line on which each begins."""
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(rf"^```(?:{'|'.join(languages)})\n(.*?)^```", text, re.S | re.M):
        yield text[: match.start(1)].count("\n"), match[1]


def commands(page: Path) -> list[str]:
    """The command lines of a page's shell blocks, without comments."""
    text = "\n".join(block for _, block in blocks(page, "bash", "sh", "console"))
    lines = (
        re.sub(r"(^|\s)#.*", "", line).strip() for line in text.replace("\\\n", " ").splitlines()
    )
    return [line for line in lines if line]


def numbers(text: str) -> list[str]:
    """The numbers in a text, each with its interval.

    >>> numbers("−.741 ± 0.016 of 40 in 20,000")
    ['-.741 ± 0.016', '40', '20000']
    """
    return [found.replace("−", "-").replace(",", "") for found in NUMBER.findall(text)]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(blocks(page, "python"))], ids=name_of
)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page's blocks run in order, in one namespace."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    namespace: dict[str, object] = {"__name__": "docs"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for line, block in blocks(page, "python"):
            exec(compile("\n" * line + block, str(page), "exec"), namespace)


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name_of)
def test_commands_exist(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every `make …` is a target; every `vaerl …` parses, options and their types included."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    cli = typer.main.get_command(app)
    for line in commands(page):
        program, *words = shlex.split(line)
        if program == "make":
            assert {word for word in words if "=" not in word} <= targets, line
        elif program == "vaerl" and words[0] == "experiment":
            assert experiment_started(words, monkeypatch) == [words[1]], line
        elif program == "vaerl":
            command = cli.commands[words[0]]  # type: ignore[attr-defined]
            command.make_context(words[0], words[1:])
        else:
            assert program in ("pip", "git", "cd", "python", "hf", "wandb"), line


def experiment_started(words: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The experiments that a command line would run, by name: each is replaced by a mock."""
    started: list[str] = []
    name = words[1]
    run = EXPERIMENTS.load(name)

    @functools.wraps(run)
    def mock(*args: object, **kwargs: object) -> Path:
        started.append(name)
        return Path("results.json")

    with monkeypatch.context() as patch:
        patch.setattr(EXPERIMENTS, "load", lambda name: mock)
        CliRunner().invoke(app, words)
    return started


def lines_of_tables(text: str) -> Iterator[set[str]]:
    """The numbers in each row and each column of the tables of a page."""
    for table in re.findall(r"(?:^\|.*\|\n)+", text, re.M):
        rows = [[set(numbers(cell)) for cell in row.split(" | ")] for row in table.splitlines()]
        for line in (*rows, *zip_longest(*rows, fillvalue=set())):
            yield set().union(*line)


def test_readme_numbers_come_from_the_records() -> None:
    """README's results link to a page where a row or a column of a table holds their numbers."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[.*\]\((docs/results/[\w-]+\.md)\)[^|]*\|(.*)\|$", text, re.M)
    assert 0 < len(rows) <= 8
    for page, cells in rows:
        given = set(numbers(cells)) - {"0"}  # the least gap or regret that there can be
        recorded = lines_of_tables((ROOT / page).read_text(encoding="utf-8"))
        assert any(given <= line for line in recorded), (page, cells)


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "results").glob("*.md")), ids=name_of)
def test_answers_come_from_the_records(page: Path) -> None:
    """Every decimal number in a question's answer stands in its tables."""
    answer, tables = page.read_text(encoding="utf-8").split("\n\n", 2)[1:]
    given = {number for number in numbers(answer) if "." in number or "±" in number}
    assert given - set(numbers(tables)) == set()


def test_every_page_is_on_the_site() -> None:
    """mkdocs.yml lists each page; docs/api.md names things that exist."""
    listed = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in PAGES[2:]}
    assert pages == listed
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    names = re.findall(r"^::: ([\w.]+)$", text, re.M)
    assert len(names) > 20
    for name in names:
        pkgutil.resolve_name(name)
