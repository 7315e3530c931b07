"""Write the pages of results from the records beside each question.

A question is a folder with `README.md`, which asks it in the title and answers it in the first
paragraph, and `results/`, which holds its records (JSON), pictures (PNG) and tables (CSV). Each
gives one page docs/results/<question>.md; docs/results.md is the index. A record holds `title`,
`command`, `caption`, `columns` and `rows`, and may hold `versions` (an object) and `notes` (a
list). A picture <record>*.png is shown below the record's table.

    python docs/gen_tables.py            write the pages
    python docs/gen_tables.py --check    fail if a page is out of date
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
INDEX = """# Results

One page per question, with its tables, pictures, commands and versions. The records lie in
`experiments/<question>/results/`, and `docs/gen_tables.py` writes these pages from them.
`vaerl experiment NAME` repeats a measurement.

| question | answer |
| --- | --- |
"""
NEEDED = {"title": str, "command": str, "caption": str, "columns": list, "rows": list}


def read_record(path: Path) -> dict[str, Any]:
    """Load a record and check its form; an error names the file, the key and the form."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name}: not JSON: {error}") from None
    if not isinstance(record, dict):
        raise ValueError(f"{path.name}: expected an object, not {type(record).__name__}")
    for key, kind in NEEDED.items():
        if not isinstance(record.get(key), kind):
            raise ValueError(f"{path.name}: {key}: expected {kind.__name__}: {record.get(key)!r}")
    width = len(record["columns"])
    for number, row in enumerate(record["rows"]):
        if not isinstance(row, list) or len(row) != width:
            raise ValueError(f"{path.name}: rows[{number}]: expected {width} cells, not {row!r}")
    return record


def cell(value: Any) -> str:
    """One table cell: four significant digits for floats, a dash for nothing.

    >>> [cell(v) for v in (3286.41, 0.01234, True, None, "a|b")]
    ['3286', '0.01234', 'yes', '–', 'a\\\\|b']
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value).replace("|", "\\|").replace("\n", " ")


def table(columns: list[Any], rows: list[list[Any]]) -> list[str]:
    """The lines of a Markdown table; columns of numbers are aligned to the right."""
    number = [all(isinstance(row[i], (int, float)) for row in rows) for i in range(len(columns))]
    rule = ["---:" if numeric and rows else "---" for numeric in number]
    body = [[cell(value) for value in row] for row in rows]
    lines = [[cell(column) for column in columns], rule, *body]
    return ["| " + " | ".join(line) + " |" for line in lines]


def section(path: Path) -> str:
    """One record as Markdown: title, caption, command, table, notes, versions, pictures."""
    record = read_record(path)
    lines = [f"## {record['title']}", "", record["caption"], ""]
    lines += ["```bash", *record["command"].splitlines(), "```", ""]
    lines += [*table(record["columns"], record["rows"]), ""]
    notes = record.get("notes", [])
    if notes:
        lines += [*(f"- {note}" for note in notes), ""]
    versions = record.get("versions", {})
    if versions:
        lines += ["Versions: " + ", ".join(f"{k} {v}" for k, v in versions.items()) + ".", ""]
    for picture in sorted(path.parent.glob(f"{path.stem}*.png")):
        lines += [f"![{picture.stem.replace('-', ' ')}]({link(picture)})", ""]
    return "\n".join(lines)


def link(path: Path) -> str:
    """The address of a file as seen from a page in docs/results/."""
    return Path(os.path.relpath(path, DOCS / "results")).as_posix()


def page(folder: Path) -> str:
    """The page of the question in `folder`: its README, its records, links to its CSV files."""
    text = (folder / "README.md").read_text(encoding="utf-8").rstrip()
    parts = [re.sub(r"\]\((?:\.\./)+docs/", "](../", text) + "\n"]
    parts += [section(path) for path in sorted(folder.glob("results/*.json"))]
    tables = sorted(folder.glob("results/*.csv"))
    if tables:
        links = [f"- [{path.name}]({link(path)})" for path in tables]
        parts.append("\n".join(["## More tables", "", *links, ""]))
    return "\n".join(parts)


def pages(root: Path) -> dict[str, str]:
    """The text of every page of results, by its path in docs/."""
    folders = [path.parent for path in root.glob("experiments/*/results")]
    folders.append(root / "vaerl" / "lab" / "bench")
    made, index = {}, INDEX
    for folder in sorted(folders, key=lambda folder: folder.name):
        name = f"results/{folder.name.replace('_', '-')}.md"
        made[name] = page(folder)
        title, answer = made[name].split("\n\n")[:2]
        index += f"| [{title.removeprefix('# ')}]({name}) | {' '.join(answer.split())} |\n"
    return {"results.md": index, **made}


def main(arguments: list[str]) -> str | None:
    """Write or check the pages; return an error line, or None."""
    try:
        texts = pages(ROOT)
    except (OSError, ValueError) as error:
        return str(error)
    left = {path.relative_to(DOCS).as_posix() for path in DOCS.glob("results/*.md")} - set(texts)
    if left:
        return f"docs/{min(left)} belongs to no question: delete it"
    for name, text in texts.items():
        path = DOCS / name
        if "--check" not in arguments:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            return f"docs/{name} is out of date: python docs/gen_tables.py"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
