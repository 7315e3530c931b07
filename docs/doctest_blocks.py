"""Show the `>>>` examples of docstrings as code on the API page (a griffe extension)."""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"(?m)^>>> .*(?:\n(?!\s*$).+)*")


def fence(text: str) -> str:
    """Put each example, up to its blank line, between code fences."""
    return EXAMPLE.sub(lambda match: f"```pycon\n{match.group()}\n```", text)


class DoctestBlocks(griffe.Extension):
    """Fence the examples in every docstring before it is rendered."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by griffe for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = fence(obj.docstring.value)
