"""Names of densities, agents, planners, trackers and experiments, loaded when they are first used.

A built-in name is one line in its registry. Another installed package adds names through entry
points, here a density:

    [project.entry-points."vaerl.densities"]
    toy = "toy_package:Toy"

The groups are `vaerl.densities`, `vaerl.agents`, `vaerl.planners`, `vaerl.trackers`,
`vaerl.executors` and `vaerl.experiments`. Those of `vaerl.envs` are registered with Gymnasium
(`vaerl.envs`).
"""

from __future__ import annotations

import inspect
import pkgutil
import warnings
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from vaerl.names import check_name


class Registry:
    """The names of one kind of thing.

    Args:
        kind: what a name stands for, such as "density"; for messages.
        group: group of entry points that other packages use.
        built_in: name → ("module:attribute", one line that says what it is).

    >>> shelves = Registry("shelf", "vaerl.shelves", {"od": ("collections:OrderedDict", "a dict")})
    >>> shelves.load("od").__name__, shelves.lines()
    ('OrderedDict', [('od', 'a dict')])
    """

    def __init__(self, kind: str, group: str, built_in: Mapping[str, tuple[str, str]]) -> None:
        self.kind, self.group = kind, group
        self._lines = {name: line for name, (_, line) in built_in.items()}
        self._targets: dict[str, Any] = {name: target for name, (target, _) in built_in.items()}
        self._installed = False

    def names(self) -> tuple[str, ...]:
        """All names: the built-in ones, then those of other packages."""
        return tuple(self._all())

    def __contains__(self, name: object) -> bool:
        return name in self._targets or name in self._all()

    def check(self, name: str, what: str = "") -> str:
        """Return `name` if it is known; otherwise raise a ValueError that names the nearest one."""
        return name if name in self else check_name(what or self.kind, name, self._all())

    def add(self, name: str, thing: Any, line: str = "") -> None:
        """Register an object, or "module:attribute", in this process.

        Raises ValueError if the name is taken.
        """
        if name in self:
            raise ValueError(f"{self.kind}: got {name!r}, expected a name that is not taken")
        self._targets[name] = thing
        if line:
            self._lines[name] = line

    def load(self, name: str) -> Any:
        """Return what `name` stands for.

        Raises ValueError, in one line, for an unknown name and for a package that cannot be loaded.
        """
        target = self._all()[self.check(name)] if name not in self._targets else self._targets[name]
        if isinstance(target, str):
            return pkgutil.resolve_name(target)
        if not isinstance(target, metadata.EntryPoint):
            return target
        try:
            return target.load()
        except Exception as error:  # the module of another package may raise anything
            raise ValueError(
                f"{self.kind} {name!r}: {target.value!r} cannot be loaded: "
                f"{type(error).__name__}: {error}"
            ) from error

    def lines(self) -> list[tuple[str, str]]:
        """Every name with a one-line description, or with the error of a broken package."""
        return [(name, self._line(name)) for name in self.names()]

    def attribute(self, name: str) -> Any:
        """Return the built-in thing whose attribute is called `name`, or raise AttributeError."""
        for target in self._targets.values():
            if isinstance(target, str) and target.endswith(f":{name}"):
                return pkgutil.resolve_name(target)
        raise AttributeError(f"module {self.group!r} has no attribute {name!r}")

    def name_of(self, thing: Any) -> str | None:
        """Return the name under which a class or function is registered, if it is."""
        for name, target in self._all().items():
            place = target.value if isinstance(target, metadata.EntryPoint) else target
            same_name = isinstance(place, str) and place.endswith(f":{thing.__qualname__}")
            if thing is target or (same_name and thing is self.load(name)):
                return name
        return None

    def _line(self, name: str) -> str:
        if name not in self._lines:
            try:
                self._lines[name] = (inspect.getdoc(self.load(name)) or "").partition("\n")[0]
            except ValueError as error:
                self._lines[name] = str(error)
        return self._lines[name]

    def _all(self) -> dict[str, Any]:
        """The targets, with those of installed packages, which are searched once."""
        if not self._installed:
            self._installed = True
            for point in metadata.entry_points(group=self.group):
                if point.name in self._targets:
                    warnings.warn(
                        f"{self.kind} {point.name!r} of {point.value!r} is ignored: "
                        "the name is taken",
                        stacklevel=3,
                    )
                else:
                    self._targets[point.name] = point
        return self._targets
