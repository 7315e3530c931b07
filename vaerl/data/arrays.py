"""Arrays of numbers out of npz and npy files of unknown origin.

numpy makes room for the array that a header promises before it looks for the numbers, and a small
archive can unpack to any size. Here the sizes are compared first. Objects, which are pickled, are
refused.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from vaerl.disk.errors import VaerlLoadError
from vaerl.disk.reading import read_file

MOST_BYTES = 2**29  # of a file, and of the arrays in one
MOST_ARRAYS = 4096
KINDS = "biufcSU"  # of numbers, flags and texts
MAGIC = b"\x93NUMPY"

Array = np.ndarray


def read_arrays(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The arrays of an npz file by name; of an npy file one, named "".

    Raises ValueError, in one line that names the file.
    """
    path = Path(path)
    try:
        data = read_file(path, MOST_BYTES, follow=True)
        return {"": _array(data)} if data.startswith(MAGIC) else _archive(data)
    except (OSError, ValueError, EOFError, KeyError, RuntimeError, NotImplementedError) as error:
        reason = str(error).removeprefix(f"{path.name}: ")
        raise ValueError(f"{path}: not a readable npz file of numbers ({reason})") from error
    except (zipfile.BadZipFile, zlib.error, MemoryError) as error:
        raise ValueError(f"{path}: not a readable npz file of numbers ({error})") from error


def _archive(data: bytes) -> dict[str, Array]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        size = sum(member.file_size for member in members)
        if size > MOST_BYTES or len(members) > MOST_ARRAYS:
            raise ValueError(
                f"got {len(members):,} arrays of {size:,} bytes, expected at most {MOST_ARRAYS:,} "
                f"of {MOST_BYTES:,}"
            )
        return {m.filename.removesuffix(".npy"): _array(archive.read(m)) for m in members}


def _array(data: bytes) -> Array:
    stream = io.BytesIO(data)
    version = npy.read_magic(stream)
    if version == (1, 0):
        shape, fortran, dtype = npy.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, fortran, dtype = npy.read_array_header_2_0(stream)
    else:
        raise VaerlLoadError(f"npy version: got {version}, expected (1, 0) or (2, 0)")
    if dtype.kind not in KINDS:
        raise VaerlLoadError(f"dtype: got {dtype}, expected numbers")
    start, size = stream.tell(), math.prod(shape) * dtype.itemsize
    if size != len(data) - start or min(shape, default=0) < 0:
        raise VaerlLoadError(f"shape: got {shape} of {dtype} for {len(data) - start:,} bytes")
    flat = np.frombuffer(data, dtype, offset=start)
    return flat.reshape(shape, order="F" if fortran else "C").copy()
