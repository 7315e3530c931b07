"""Where work runs, by name: in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from vaerl.lab.pool import work_on
from vaerl.registry import Registry

#: Each is made with (jobs, address, storage) and is an `Executor`.
EXECUTORS = Registry(
    "executor",
    "vaerl.executors",
    {
        "processes": ("vaerl.lab.pool:make_processes", "processes of this machine"),
        "ray": ("vaerl.lab.on_ray:OnRay", "Ray Tune, on this machine or a cluster"),
    },
)


@contextmanager
def executing(name: str, address: str, out: Path) -> Iterator[None]:
    """Have experiments and sweeps run on the executor of that name inside the block.

    Args:
        name: of the executor; "" for the one that suits the address.
        address: of a cluster; "" for this machine.
        out: folder of the results.

    Raises:
        ValueError: an unknown name, or an address that does not suit.
    """
    make = EXECUTORS.load(name or ("ray" if address else "processes"))
    with work_on(partial(make, address=address, storage=out)):
        yield
