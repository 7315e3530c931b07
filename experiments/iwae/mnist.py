"""MNIST from its IDX files: found, checked, and split as Burda et al. (2016) do.

The folder is the argument, or the environment variable VAERL_DATA; it holds train-images-idx3-ubyte
and t10k-images-idx3-ubyte (and the labels, if needed), gzipped or not, itself or in a folder mnist
below it. Images are kept as grey levels and binarised again at every use.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vaerl.names import check_name

PIXELS = 28 * 28
MIRROR = "https://storage.googleapis.com/cvdf-datasets/mnist"
NAMES = {
    "train": "train-images-idx3-ubyte",
    "test": "t10k-images-idx3-ubyte",
    "train-labels": "train-labels-idx1-ubyte",
    "test-labels": "t10k-labels-idx1-ubyte",
}
MD5 = {
    "train": "6bbc9ace898e44ae57da46a324031adb",
    "test": "2646ac647ad5339dbf082846283269ea",
    "train-labels": "a25bea736e30d166cdddb491f175f624",
    "test-labels": "27ae3e4e09519cfbb04c329615203637",
}
"""Of the uncompressed files."""


@dataclass(frozen=True)
class Digits:
    """Grey levels in [0, 1] as float32 ``(n, 784)``: what to train on, what to score on."""

    train: Tensor
    test: Tensor


def load_mnist(folder: str | os.PathLike[str] | None = None, validation: bool = False) -> Digits:
    """The first 59,600 training images and the 10,000 test images.

    With `validation` the first 55,000 and the last 5,000 of the training images instead: what
    settings are chosen on; the test file is then not read.

    Raises FileNotFoundError, saying how to get the files, and ValueError for damaged ones.
    """
    train = grey_levels(load_images("train", folder))
    if validation:
        return Digits(train[:55_000], train[55_000:])
    return Digits(train[:59_600], grey_levels(load_images("test", folder)))


def load_images(part: str, folder: str | os.PathLike[str] | None = None) -> Tensor:
    """The images of `part` ("train" or "test") as uint8 ``(n, 784)``, their md5 checked."""
    return parse_images(*_checked(part, folder))


def load_labels(part: str, folder: str | os.PathLike[str] | None = None) -> Tensor:
    """Which digit each image of `part` ("train" or "test") shows, int64 ``(n,)``, checked."""
    return parse_labels(*_checked(f"{part}-labels", folder))


def _checked(part: str, folder: str | os.PathLike[str] | None) -> tuple[bytes, str]:
    """Bytes of the file of `part`, unpacked, their md5 checked, and its name."""
    path = find(part, folder)
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError) as error:
            raise ValueError(
                f"{path}: not a whole gzip file ({error}); {_how([part], path.parent)}"
            ) from None
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != MD5[part]:
        raise ValueError(
            f"{path}: md5 is {found}, expected {MD5[part]}; {_how([part], path.parent)}"
        )
    return data, path.name


def find(part: str, folder: str | os.PathLike[str] | None = None) -> Path:
    """Where the file of `part` lies; FileNotFoundError says in one line how to get all missing
    ones."""
    check_name("part", part, NAMES)
    given = folder or os.environ.get("VAERL_DATA")
    if not given:
        raise FileNotFoundError(
            f"data: no folder given, expected --data DIR or VAERL_DATA=DIR; {_how([*NAMES], 'DIR')}"
        )
    found = {name: _place(name, given) for name in NAMES}
    path = found[part]
    if path is None:
        missing = [name for name, place in found.items() if place is None]
        raise FileNotFoundError(
            f"data: {given} holds no {NAMES[part]}[.gz]; {_how(missing, given)}"
        )
    return path


def _place(part: str, given: str | os.PathLike[str]) -> Path | None:
    for folder in (Path(given), Path(given) / "mnist"):
        for suffix in (".gz", ""):
            path = folder / f"{NAMES[part]}{suffix}"
            if path.is_file():
                return path
    return None


def parse_images(data: bytes, name: str) -> Tensor:
    """IDX bytes (magic 0x803, three sizes, then pixels row by row) as uint8 ``(n, rows·columns)``.

    >>> parse_images(bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 7, 255]), "tiny")
    tensor([[  7, 255]], dtype=torch.uint8)
    """
    sizes = [int.from_bytes(data[start : start + 4], "big") for start in (4, 8, 12)]
    if data[:4] != b"\0\0\x08\x03" or len(data) != 16 + sizes[0] * sizes[1] * sizes[2]:
        raise ValueError(
            f"{name}: {len(data)} bytes that start with {data[:4].hex()}, expected an IDX file of "
            "images: 00000803, three sizes, and as many pixels as they say"
        )
    pixels = torch.frombuffer(bytearray(data[16:]), dtype=torch.uint8)
    return pixels.reshape(sizes[0], sizes[1] * sizes[2])


def parse_labels(data: bytes, name: str) -> Tensor:
    """IDX bytes (magic 0x801, the count, one byte a label) as int64 ``(n,)``.

    >>> parse_labels(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 3]), "tiny")
    tensor([7, 3])
    """
    if data[:4] != b"\0\0\x08\x01" or len(data) != 8 + int.from_bytes(data[4:8], "big"):
        raise ValueError(
            f"{name}: {len(data)} bytes that start with {data[:4].hex()}, expected an IDX file of "
            "labels: 00000801, their number, and as many bytes as it says"
        )
    return torch.frombuffer(bytearray(data[8:]), dtype=torch.uint8).long()


def binarise(grey: Tensor, generator: torch.Generator) -> Tensor:
    """Bernoulli draws of grey levels: a new image at every use."""
    return (torch.rand(grey.shape, generator=generator, device=grey.device) < grey).float()


def drawn_digits(count: int, generator: torch.Generator) -> Tensor:
    """Grey `count` × 784 images of seven-segment digits, shifted and faded at random.

    Data for the debug presets and the tests, without any file.
    """
    return drawn_digits_with_labels(count, generator)[0]


def drawn_digits_with_labels(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The same with which digit each image shows, int64 ``(count,)``."""
    segments = torch.tensor([[int(bit) for bit in mask] for mask in SEGMENTS], dtype=torch.bool)
    canvas = torch.zeros(7, 28, 28)
    for number, (top, left, height, width) in enumerate(STROKES):
        canvas[number, top : top + height, left : left + width] = 1.0
    shapes = torch.stack([canvas[lit].amax(0) for lit in segments])
    labels = torch.randint(10, (count,), generator=generator)
    digits = shapes[labels]
    shifts: Sequence[Sequence[int]] = torch.randint(-3, 4, (count, 2), generator=generator).tolist()
    moved = [
        digit.roll((down, right), (0, 1))
        for digit, (down, right) in zip(digits, shifts, strict=True)
    ]
    fade = 0.6 + 0.4 * torch.rand(count, 1, generator=generator)
    return torch.stack(moved).reshape(count, PIXELS) * fade, labels


SEGMENTS = (
    "1110111", "0010010", "1011101", "1011011", "0111010",
    "1101011", "1101111", "1010010", "1111111", "1111011",
)  # fmt: skip
"""Which strokes each digit lights: top, two upper sides, middle, two lower sides, bottom."""
STROKES = (
    (5, 10, 2, 8), (5, 9, 9, 2), (5, 17, 9, 2), (13, 10, 2, 8),
    (13, 9, 9, 2), (13, 17, 9, 2), (20, 10, 2, 8),
)  # fmt: skip
"""Row, column, height and width of each stroke."""


def grey_levels(pixels: Tensor) -> Tensor:
    """Pixels in 0 … 255 as float32 in [0, 1]."""
    return pixels.float() / 255.0


def _how(parts: Sequence[str], folder: str | os.PathLike[str]) -> str:
    """The command that puts files where they are looked for."""
    files = " ".join(f"-O {MIRROR}/{NAMES[part]}.gz" for part in parts)
    return f"get it by: curl --create-dirs --output-dir {shlex.quote(str(folder))} {files}"
