"""Write the small sample of Omniglot (MIT licence, Lake et al. 2015) that the tests read.

python -m tests.envs.make_handwriting_sample DATA/omniglot-small.npz --seed 0
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

SAMPLE = Path(__file__).with_name("handwriting_sample.npz")
CHARACTERS = 3


def write_sample(source: Path, seed: int) -> None:
    """Keep all drawings of three Greek characters drawn at random, without times."""
    with np.load(source, allow_pickle=False) as data:
        arrays = {key: data[key] for key in data.files if key != "time_ms"}
    greek = arrays["alphabet"] == arrays["alphabets"].tolist().index("Greek")
    numbers = np.unique(arrays["character"][greek])
    kept = np.random.default_rng(seed).choice(numbers, CHARACTERS, replace=False)
    rows = np.flatnonzero(greek & np.isin(arrays["character"], kept))
    pieces = [slice(*arrays["offsets"][i : i + 2]) for i in rows]
    lengths = [piece.stop - piece.start for piece in pieces]
    np.savez_compressed(
        SAMPLE,
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        alphabets=arrays["alphabets"],
        **{key: np.concatenate([arrays[key][p] for p in pieces]) for key in ("points", "stroke")},
        **{key: arrays[key][rows] for key in ("images", "alphabet", "character", "drawer")},
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    write_sample(options.source, options.seed)
