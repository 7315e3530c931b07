"""IWAE on MNIST: the files, the networks, the training that resumes, the score and the table."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vaerl.experiments.iwae import mnist
from vaerl.experiments.iwae.cell import (
    Autoencoder,
    Training,
    epoch_cost,
    fit_to_minutes,
    passes,
)
from vaerl.experiments.iwae.experiment import SAMPLES, make_cells, run, table_of
from vaerl.experiments.iwae.networks import build_density, nothing
from vaerl.experiments.iwae.score import lower_bounds, score, unit_variances
from vaerl.lab.cells import read_cell

CELL = Autoencoder(1, "iwae", 5, ((5, 3),), 100, images="drawn", test_images=40, test_k=60)
GREY = torch.full((784,), 0.2)


def idx(images: torch.Tensor) -> bytes:
    """The IDX file of uint8 images ``(n, 28, 28)``."""
    sizes = b"".join(size.to_bytes(4, "big") for size in images.shape)
    return b"\0\0\x08\x03" + sizes + images.numpy().tobytes()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two tiny files under the usual names, one gzipped, whose md5 is taken for the right one."""
    for part, count in (("train", 6), ("test", 4)):
        pixels = torch.arange(count * 784).remainder(256).to(torch.uint8).reshape(count, 28, 28)
        data = idx(pixels)
        monkeypatch.setitem(mnist.MD5, part, hashlib.md5(data).hexdigest())
        if part == "train":
            (tmp_path / f"{mnist.NAMES[part]}.gz").write_bytes(gzip.compress(data))
        else:
            (tmp_path / mnist.NAMES[part]).write_bytes(data)
    return tmp_path


# -- the data --------------------------------------------------------------------------------------


def test_files_are_read_from_the_argument_or_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grey levels are bytes over 255, row by row; VAERL_DATA and a folder mnist in it serve too."""
    digits = mnist.load_mnist(folder)
    assert digits.train.shape == (6, 784) and digits.test.shape == (4, 784)
    expected = torch.arange(784).remainder(256) / 255.0
    torch.testing.assert_close(digits.train[0], expected)
    (folder / "below").mkdir()
    (folder / "below" / "mnist").symlink_to(folder)
    monkeypatch.setenv("VAERL_DATA", str(folder / "below"))
    assert torch.equal(mnist.load_mnist().test, digits.test)


def test_missing_and_damaged_files_are_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong, and the command that gets the file."""
    monkeypatch.delenv("VAERL_DATA", raising=False)
    test, train_file = folder / mnist.NAMES["test"], folder / f"{mnist.NAMES['train']}.gz"
    cases: list[tuple[object, type[Exception], str]] = [
        (None, FileNotFoundError, "no folder given, expected --data DIR or VAERL_DATA=DIR"),
        (folder / "no", FileNotFoundError, "holds no train-images-idx3-ubyte"),
        (folder, ValueError, "md5 is .*, expected"),
    ]
    test.write_bytes(test.read_bytes()[:-1] + b"\7")
    for place, kind, message in cases:
        with pytest.raises(kind, match=message) as caught:
            mnist.load_mnist(place)  # type: ignore[arg-type]
        text = str(caught.value)
        assert "curl --create-dirs --output-dir" in text and "\n" not in text
        # one command gets all that is missing, into the folder that was looked at
        assert text.count("-O https://") == {None: 4, folder / "no": 4, folder: 1}[place]  # type: ignore[index]
        assert place is None or f"--output-dir {place} " in text
    train_file.write_bytes(train_file.read_bytes()[:50])
    with pytest.raises(ValueError, match="not a whole gzip file"):
        mnist.load_mnist(folder)


@pytest.mark.parametrize(
    "data", [b"", b"\0\0\x08\x01" + bytes(12), idx(torch.zeros(2, 28, 28).byte())[:-1]]
)
def test_bytes_that_are_no_idx_images_are_refused(data: bytes) -> None:
    """Wrong magic, and fewer pixels than the header says."""
    with pytest.raises(ValueError, match="expected an IDX file of images"):
        mnist.parse_images(data, "file")


def test_binarisation_is_new_at_every_use_and_keeps_the_mean() -> None:
    """Frequencies of repeated draws are the grey levels."""
    grey = torch.linspace(0.0, 1.0, 784).expand(2000, 784)
    generator = torch.Generator().manual_seed(0)
    first, second = mnist.binarise(grey, generator), mnist.binarise(grey, generator)
    assert not torch.equal(first, second)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(first.mean(0), grey[0], rtol=0.0, atol=0.06)


# -- the networks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "encoder", "decoder"),
    [
        (1, 157_000 + 40_200 + 20_100, 10_200 + 40_200 + 157_584),
        (
            2,
            157_000 + 40_200 + 40_200 + 3 * 10_100,
            5_100 + 10_100 + 20_200 + 20_200 + 40_200 + 157_584,
        ),
    ],
)
def test_networks_have_the_published_sizes(layers: int, encoder: int, decoder: int) -> None:
    """Weights and biases counted by hand from the sizes; pixels start at their mean."""
    density = build_density(layers, "iwae-k", 5, GREY, 0)
    counts = [
        sum(p.numel() for p in part.parameters())
        for part in (density.chain.recognition, density.chain.generative)
    ]
    assert counts == [encoder, decoder]
    weights = sum(p.numel() for p in density.parameters() if p.ndim == 2)
    assert passes(density, 1) == weights
    bias = [p for name, p in density.named_parameters() if name.endswith("bias")]
    assert any(torch.allclose(b.sigmoid(), GREY) for b in bias if b.shape == (784,))
    other = build_density(layers, "iwae-k", 5, GREY, 1)
    assert not torch.equal(
        other.chain.recognition[0].net[0].weight, density.chain.recognition[0].net[0].weight
    )


# -- training --------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2])
def test_training_raises_the_bound_which_rises_with_k(layers: int) -> None:
    """A tiny training gains many nats on new images; there L_1 < L_5 < L_50."""
    digits = CELL.load_digits()
    training = Training(replace(CELL, layers=layers, phases=((5, 3),), batch_size=30), digits.train)
    x = mnist.binarise(digits.test, torch.Generator().manual_seed(0))

    def bound(k: int) -> float:
        generator = torch.Generator().manual_seed(1)
        return lower_bounds(training.density, x, k, generator).mean().item()

    before = bound(5)
    for _ in range(3):
        training.round()
    assert bound(5) > before + 8.0
    assert bound(1) < bound(5) - 0.1 < bound(50) - 0.2
    assert -training.losses[-1] == pytest.approx(bound(5), abs=8.0)


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    """Stopped after each epoch and restored from disk: the same parameters, to the last bit."""
    images = CELL.load_digits().train[:200]
    cell = replace(CELL, phases=((2, 2), (5, 1)))
    whole = Training(cell, images)
    whole.run(tmp_path / "whole")
    for _ in range(cell.epochs):
        part = Training(cell, images)
        part.restore(tmp_path / "state")
        part.round()
        part.save(tmp_path / "state")
    again = Training(replace(cell, test_k=7), images)
    assert again.restore(tmp_path / "state") and again.done == 3
    for name, value in whole.density.state_dict().items():
        assert torch.equal(value, again.density.state_dict()[name]), name
    with pytest.raises(ValueError, match=r"learning_rate: got 0\.01, expected 0\.1"):
        Training(replace(cell, learning_rate=0.1), images).restore(tmp_path / "state")


def test_precision_changes_the_arithmetic_and_little_else() -> None:
    """bfloat16 networks give other numbers than float32 ones, within a nat after some epochs."""
    images = CELL.load_digits().train
    found = []
    for precision in ("float32", "bfloat16"):
        training = Training(replace(CELL, precision=precision), images)
        for _ in range(CELL.epochs):
            training.round()
        found.append(-training.losses[-1])
    assert found[0] != found[1] and found[0] == pytest.approx(found[1], abs=1.0)


def test_objectives_differ_in_what_they_maximise() -> None:
    """On one density the importance-weighted bound is above the mean of k ELBOs."""
    images = CELL.load_digits().train
    bounds = {}
    for objective in ("vae", "iwae"):
        training = Training(replace(CELL, objective=objective, learning_rate=1e-9), images)
        training.round()
        bounds[objective] = -training.losses[0]
    assert bounds["iwae"] > bounds["vae"] + 1.0


# -- the score -------------------------------------------------------------------------------------


def test_units_that_ignore_the_image_are_not_active() -> None:
    """Weights of some means set to 0: those units have variance 0, the others have not."""
    digits = CELL.load_digits()
    density = build_density(2, "iwae-k", 5, digits.train.mean(0), 0)
    with torch.no_grad():
        for layer, count in zip(density.chain.recognition, (60, 20), strict=True):
            layer.net[-1].weight[:count] = 0.0
    for variances, count in zip(
        unit_variances(density, digits.train, torch.Generator().manual_seed(0)),
        (60, 20),
        strict=True,
    ):
        assert (variances[:count] < 1e-9).all() and (variances[count:] > 1e-3).all()
    scores = score(density, digits, replace(CELL, layers=2, test_images=10))
    assert scores["active"] == [40, 30]


def test_score_is_minus_the_bound_at_the_cells_k() -> None:
    """NLL = −mean L_K over the test images; more samples give a lower one."""
    digits = CELL.load_digits()
    density = build_density(1, "iwae-k", 5, digits.train.mean(0), 0)
    few = score(density, digits, replace(CELL, test_k=1))
    many = score(density, digits, CELL)
    assert many["nll"] < few["nll"] - 1.0
    assert list(many["bound_by_k"]) == ["1", "5", "50", "60"]
    assert -many["nll"] == pytest.approx(many["bound_by_k"]["60"])
    value = density(nothing(1))
    assert value.log_prob_bounds(torch.zeros(1, 784), 1).lower.item() < 0.0


# -- the table -------------------------------------------------------------------------------------


def test_cells_are_those_of_the_published_table() -> None:
    """Ten cells: at k = 1 both objectives are one; names and k are checked in one line."""
    cells = make_cells()
    assert len(cells) == 10 and len({cell.name for cell in cells}) == 10
    assert {(c.layers, c.k) for c in cells if c.objective == "iwae"} == {
        (layers, k) for layers in (1, 2) for k in SAMPLES
    }
    assert {cell.phases[-1][0] == cell.k for cell in make_cells("hour")} == {True}
    assert make_cells(k=[1], objectives=["vae"], layers=[1]) == [make_cells()[0]]
    for arguments, message in (
        ({"k": [7]}, "k: got 7"),
        ({"layers": [3]}, "layers: got 3"),
        ({"objectives": ["iwa"]}, "did you mean 'iwae'"),
        ({"preset": "hours"}, "did you mean 'hour'"),
    ):
        with pytest.raises(ValueError, match=message):
            make_cells(**arguments)  # type: ignore[arg-type]


def test_minutes_scale_all_phases_alike() -> None:
    """Whole epochs, at least one a phase."""
    assert fit_to_minutes([(5, 150), (50, 20)], [6.0, 60.0], 17.5) == ((5, 75), (50, 10))
    assert fit_to_minutes([(5, 150), (50, 20)], [6.0, 60.0], 0.01) == ((5, 1), (50, 1))


def test_debug_cells_run_whole(tmp_path: Path) -> None:
    """Table and pictures; another plan is refused."""
    choice = {"preset": "debug", "layers": [1], "k": [1, 5]}
    record = json.loads(run(tmp_path, **choice).read_text())  # type: ignore[arg-type]
    assert [row[:3] for row in record["rows"]] == [["debug", "1", "1"], ["debug", "1", "5"]]
    assert record["rows"][0][3:5] == record["rows"][0][5:7]  # one cell stands for both
    assert record["rows"][1][3] != record["rows"][1][5]
    assert record["command"] == "vaerl experiment iwae-mnist --preset debug --layers 1 --k 1,5"
    assert len([*(tmp_path / "figures").glob("*.png")]) == 4
    with pytest.raises(ValueError, match="made with other settings"):
        run(tmp_path, **choice, epochs=2)  # type: ignore[arg-type]


def test_the_commands_make_the_cells_and_no_others(tmp_path: Path) -> None:
    """One for each cell where a common one would make more."""
    run(tmp_path, "debug", layers=[1], k=[5], objectives=["vae"])
    (cell,) = make_cells("debug", layers=[1], k=[5], objectives=["vae"])
    one = read_cell(cell, tmp_path)
    assert one is not None
    other = one._replace(cell={**one.cell, "layers": 2, "objective": "iwae"})
    assert table_of([one, other])["command"].splitlines() == [
        "vaerl experiment iwae-mnist --preset debug --layers 1 --objectives vae --k 5",
        "vaerl experiment iwae-mnist --preset debug --layers 2 --objectives iwae --k 5",
    ]


def test_a_trained_cell_is_scored_again_without_training(tmp_path: Path) -> None:
    """Other test samples: a new score of the same parameters."""
    choice = {"preset": "debug", "layers": [1], "k": [1]}
    run(tmp_path, **choice)  # type: ignore[arg-type]
    (cell,) = make_cells("debug", layers=[1], k=[1])
    before = read_cell(cell, tmp_path)
    state = cell.path(tmp_path).with_suffix(".state").read_bytes()
    record = json.loads(run(tmp_path, **choice, test_k=2).read_text())  # type: ignore[arg-type]
    after = read_cell(replace(cell, test_k=2), tmp_path)
    assert before is not None and after is not None
    assert cell.path(tmp_path).with_suffix(".state").read_bytes() == state
    assert after.data["train_seconds"] == before.data["train_seconds"]
    assert after.data["nll"] > before.data["nll"]  # 2 samples instead of 100
    assert "K = 2." in record["caption"] and "--test-k 2" in record["command"]


def test_what_a_cell_may_not_be_is_named() -> None:
    """Each field by its own name; the seed and the device before anything is made."""
    cell = make_cells("debug")[0]
    for change, message in (
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"test_k": 0}, "test_k: got 0"),
        ({"warmup": 0.0}, "warmup: got 0.0"),
        ({"phases": ((1, -3),)}, "epochs of a phase: got -3"),
        ({"seed": 2**32}, "seed: got 4294967296"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(cell, **change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="device: got 'gpu', expected one of cpu"):
        run(Path("never"), preset="debug", device="gpu")


def test_estimates_follow_what_cells_took() -> None:
    """Against the recorded CPU minutes of the two long cells, within a sixth."""
    for layers, minutes in ((1, 60.8), (2, 90.3)):
        (cell,) = make_cells("hour", layers=[layers], objectives=["iwae"], k=[50])
        cost = sum(epoch_cost(cell, number, 59_600) for number in range(cell.epochs))
        assert cost / 60.0 == pytest.approx(minutes, rel=1 / 6)


def test_a_plan_in_minutes_is_kept_when_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The epochs that the clock gave at first are those that count."""
    monkeypatch.setattr("vaerl.experiments.iwae.experiment.measure_seconds", lambda *_: [0.24])
    choice = {"preset": "debug", "layers": [1], "k": [1], "minutes": 0.004}
    run(tmp_path, **choice)  # type: ignore[arg-type]
    path = tmp_path / "cells" / "debug-L1-iwae-k1-s0.plan"
    assert json.loads(path.read_text()) == {"minutes": 0.004, "phases": [[1, 1]]}
    monkeypatch.setattr("vaerl.experiments.iwae.experiment.measure_seconds", lambda *_: [0.06])
    run(tmp_path, **choice)  # type: ignore[arg-type]
    assert json.loads(path.read_text())["phases"] == [[1, 1]]
    for wrong in ({"minutes": -1.0}, {"minutes": 1.0, "epochs": 2}, {"jobs": 0}):
        with pytest.raises(ValueError, match="expected"):
            run(tmp_path / "never", preset="debug", **wrong)  # type: ignore[arg-type]
