"""Show on the site what lies beside the experiments: pictures, CSV files (a MkDocs hook).

A page links to them through the root of the repository, as GitHub needs it; on the site they lie
below docs/, one folder less away.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent


def on_files(files: Files, config: Any) -> Files:
    """Add the files that records and pages refer to."""
    for path in sorted(ROOT.glob("experiments/*/results/*")):
        if path.suffix in (".png", ".csv"):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Take one `../` off each link into experiments/."""
    return re.sub(r"\]\(((?:\.\./)*)\.\./experiments/", r"](\1experiments/", markdown)
