"""Write docs/results.md from the records in docs/results/*.json: a result is a command.

A page of its own shows a record between the lines `<!-- result NAME -->` and `<!-- end -->`.

A record holds `title`, `command`, `caption`, `columns` and `rows`, and may hold `versions` (an
object) and `notes` (a list). A picture docs/results/<record>*.png is shown below its table.

    python docs/gen_tables.py            write the pages
    python docs/gen_tables.py --check    only say whether the pages are up to date
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
HEAD = """# Results

Each table was written by the command above it. This page is generated from the records in
`docs/results/` by `docs/gen_tables.py`.
"""
NEEDED = {"title": str, "command": str, "caption": str, "columns": list, "rows": list}


def read_record(path: Path) -> dict[str, Any]:
    """Load a record and check its form; a fault is one line naming the file, the key, the form."""
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
    """The lines of a Markdown table; a column of numbers is set to the right."""
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
        lines += [f"![{record['title']}](results/{picture.name})", ""]
    return "\n".join(lines)


def page(folder: Path) -> str:
    """The whole page for the records in `folder`, in the order of their file names."""
    sections = [section(path) for path in sorted(folder.glob("*.json"))]
    return "\n".join([HEAD, *(sections or ["No result has been recorded yet.\n"])])


def fill(text: str, folder: Path) -> str:
    """A page with every marked place filled from the records in `folder`."""

    def shown(match: re.Match[str]) -> str:
        path = folder / f"{match[1]}.json"
        body = section(path) if path.exists() else "No result has been recorded yet.\n"
        return f"<!-- result {match[1]} -->\n\n{body}\n<!-- end -->"

    return re.sub(r"<!-- result ([\w-]+) -->.*?<!-- end -->", shown, text, flags=re.S)


def main(arguments: list[str]) -> str | None:
    """Write or check the pages; return an error line, or None."""
    results = DOCS / "results"
    try:
        texts = {DOCS / "results.md": page(results)}
        for path in DOCS.glob("*.md"):
            if "<!-- result " in (old := path.read_text(encoding="utf-8")):
                texts[path] = fill(old, results)
    except ValueError as error:
        return str(error)
    for path, text in sorted(texts.items()):
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
        elif old != text:
            return f"docs/{path.name} is out of date: python docs/gen_tables.py"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
