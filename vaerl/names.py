"""The nearest known name, for the one line that answers an unknown one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

FEW = 40  # names; a longer list is not printed


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Say which known name is nearest, then all of them when they are few.

    >>> did_you_mean("cvea", ["cvae", "gaussian"])
    "did you mean 'cvae'? (known: cvae, gaussian)"
    >>> did_you_mean("zzz", ["cvae", "gaussian"])
    'known: cvae, gaussian'
    """
    names = sorted(known)
    lower = {candidate.lower(): candidate for candidate in names}
    near = get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
    listing = f"known: {', '.join(names)}" if len(names) <= FEW else ""
    if not near:
        return listing or f"{len(names)} names are known, none is near"
    guess = f"did you mean {lower[near[0]]!r}?"
    return f"{guess} ({listing})" if listing else guess


def check_name(what: str, name: str, known: Iterable[str]) -> str:
    """Return `name` if it is known, else raise a ValueError that names the nearest one.

    >>> check_name("density", "cvae", ["cvae", "gaussian"])
    'cvae'
    """
    names = list(known)
    if name not in names:
        raise ValueError(f"{what} {name!r} is unknown; {did_you_mean(name, names)}")
    return name
