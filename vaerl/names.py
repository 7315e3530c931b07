"""Error messages for unknown names, with the nearest known one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

FEW = 40  # a longer list of names is not printed


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest the nearest known name, and list all of them if there are few.

    >>> did_you_mean("cvea", ["cvae", "gaussian"])
    "did you mean 'cvae'? (known: cvae, gaussian)"
    >>> did_you_mean("zzz", ["cvae", "gaussian"])
    'expected one of cvae, gaussian'
    """
    names = sorted(known)
    lower = {candidate.lower(): candidate for candidate in names}
    near = get_close_matches(str(name).lower(), lower, n=1, cutoff=0.5)
    listing = ", ".join(names) if len(names) <= FEW else ""
    if not near:
        return f"expected one of {listing or f'{len(names)} known names'}"
    guess = f"did you mean {lower[near[0]]!r}?"
    return f"{guess} (known: {listing})" if listing else guess


def check_name(what: str, name: str, known: Iterable[str]) -> str:
    """Return `name` if it is known; otherwise raise a ValueError that suggests the nearest one.

    >>> check_name("density", "cvae", ["cvae", "gaussian"])
    'cvae'
    """
    names = list(known)
    if name not in names:
        raise ValueError(f"{what}: got {name!r}, {did_you_mean(name, names)}")
    return name
