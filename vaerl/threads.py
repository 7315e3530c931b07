"""The number of threads that numerical libraries use, set in one place for all of them.

Networks of a policy's size are fastest on one thread, and threads that wait for work burn the cores
that other processes need. So every training, evaluation and cell of an experiment runs under
`limit_threads()`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

BLAS_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")

_inside = False


@contextmanager
def limit_threads(count: int | None = None) -> Iterator[None]:
    """Run the body on `count` threads in torch, OpenMP and BLAS, and restore what was set before.

    Without `count` it is one thread, unless the user has chosen: a number in `OMP_NUM_THREADS`
    holds for all libraries, one in a variable of `BLAS_VARIABLES` for BLAS, and inside another such
    block that block's number stays.

    >>> before = torch.get_num_threads()
    >>> with limit_threads(2), limit_threads():
    ...     inside = torch.get_num_threads()
    >>> inside, torch.get_num_threads() == before
    (2, True)
    """
    global _inside
    if count is None and (_inside or os.environ.get("OMP_NUM_THREADS")):
        yield
        return
    limits = {"openmp": count or 1, "blas": count or 1}
    if count is None and any(map(os.environ.get, BLAS_VARIABLES)):
        del limits["blas"]
    outer, torch_before = _inside, torch.get_num_threads()
    with threadpool_limits(limits):
        torch.set_num_threads(count or 1)
        _inside = True
        try:
            yield
        finally:
            _inside = outer
            torch.set_num_threads(torch_before)
