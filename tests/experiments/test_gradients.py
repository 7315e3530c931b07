"""Gradient estimators: exact on the linear-Gaussian chain and on an enumerated binary machine."""

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vaerl.experiments.gradients.estimators import (
    ELBO,
    ESTIMATORS,
    NEEDS_TWO,
    leave_one_out_bounds,
    surrogate,
)
from vaerl.experiments.gradients.experiment import run, slope
from vaerl.experiments.gradients.helmholtz import (
    METHODS,
    build_machine,
    dream,
    losses,
    train_machine,
)
from vaerl.experiments.gradients.linear import NAMES, exact_elbo, linear_density, linear_draws
from vaerl.experiments.gradients.network import measure_network, spread
from vaerl.experiments.iwae.cell import Autoencoder
from vaerl.experiments.iwae.mnist import Digits, drawn_digits

DRAWS = 20_000


def mean_and_error(name: str, k: int) -> tuple[Tensor, Tensor]:
    draws = linear_draws(name, k, DRAWS, torch.Generator().manual_seed(3))
    return draws.mean(0), draws.std(0) / DRAWS**0.5


def test_the_closed_form_is_the_reference() -> None:
    """ELBO −2.256677; a .738000, s1 −.244471, g .378246, s2 −1.442806 at x = 1.5."""
    elbo, gradient = exact_elbo()
    assert elbo == pytest.approx(-2.256677, abs=1e-6)
    found = [gradient[name] for name in NAMES]
    assert found == pytest.approx([0.738, -0.244471, 0.378246, -1.442806], abs=1e-6)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_means_are_the_exact_gradient_within_their_error(name: str) -> None:
    """Estimators of the ELBO at k = 4, all others at k = 1, where L_1 is the ELBO."""
    k = 4 if name in ELBO else 1
    if k < 2 and name in NEEDS_TWO:
        with pytest.raises(ValueError, match="k: got 1"):
            linear_draws(name, 1, 2, torch.Generator())
        return
    exact = torch.tensor([exact_elbo()[1][n] for n in NAMES], dtype=torch.float64)
    mean, error = mean_and_error(name, k)
    assert ((mean - exact).abs() < 4.5 * error).all(), (mean, exact, error)
    assert error.max() < 0.05


@pytest.mark.parametrize("name", ["total", "dreg", "vimco"])
def test_estimators_of_the_bound_agree_at_k_5(name: str) -> None:
    """a .17291, s1 .0044, g .0556, s2 −.1214; STL, at .6692, follows another direction."""
    reference = torch.tensor([0.17291, 0.0044, 0.0556, -0.1214], dtype=torch.float64)
    mean, error = mean_and_error(name, 5)
    assert ((mean - reference).abs() < 4.5 * error + 5e-4).all(), (mean, error)
    stl, stl_error = mean_and_error("stl", 5)
    assert (stl[0] - reference[0]).abs() > 50.0 * stl_error[0]


def test_more_samples_help_dreg_and_hurt_the_total_derivative() -> None:
    """SNR grows as √k for DReG and falls as 1/√k for the total derivative; a baseline lowers the
    variance of REINFORCE, reparameterisation more."""

    def by_k(name: str) -> dict[str, dict[str, float]]:
        found = {}
        for k in (4, 16):
            whole = spread(linear_draws(name, k, DRAWS, torch.Generator().manual_seed(k)))
            found[str(k)] = {"snr": whole.snr, "variance": whole.variance}
        return found

    assert slope(by_k("dreg")) == pytest.approx(0.5, abs=0.15)
    assert slope(by_k("total")) == pytest.approx(-0.5, abs=0.25)
    variances = [by_k(name)["4"]["variance"] for name in ELBO]
    assert variances[0] > 1.5 * variances[1] > 1.5 * variances[2]


def test_every_draw_has_its_own_gradient() -> None:
    """A row's estimate depends on that row's parameters alone."""
    density = linear_density(3)
    rows = torch.full((3, 1), 1.5, dtype=torch.float64)
    value = surrogate(density, "dreg", 5, 0.0 * rows, rows, torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(value[1], [density.chain.recognition[0].weight])
    assert gradient[1].abs().item() > 0.0 and gradient[[0, 2]].abs().sum().item() == 0.0


def test_leave_one_out_bounds_by_hand() -> None:
    """L_k with each log-weight replaced by the mean of the others, one after the other."""
    log_w = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for i in range(4):
        others = torch.cat([log_w[:i], log_w[i + 1 :]])
        swapped = torch.cat([others, others.mean(0, keepdim=True)])
        expected = torch.logsumexp(swapped, 0) - math.log(4)
        torch.testing.assert_close(leave_one_out_bounds(log_w)[i], expected)


def test_spread_is_free_of_the_bias_of_few_draws() -> None:
    """For N(m, σ² I) draws, the mean of `signal` is ‖m‖² and of `variance` d σ²."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.tensor([0.3, -0.4, 0.0])
    draws = mean + 2.0 * torch.randn(3000, 4, 3, generator=generator)
    found = [spread(each) for each in draws]
    streamed = spread(row for row in draws[0])
    assert streamed.signal == pytest.approx(found[0].signal, abs=1e-6)
    assert streamed.variance == pytest.approx(found[0].variance, abs=1e-6)
    signal = torch.tensor([each.signal for each in found])
    variance = torch.tensor([each.variance for each in found])
    assert abs(signal.mean().item() - 0.25) < 4.0 * signal.std().item() / 3000**0.5
    assert abs(variance.mean().item() - 12.0) < 4.0 * variance.std().item() / 3000**0.5


# -- binary latents --------------------------------------------------------------------------------


def test_vimco_and_the_decoder_follow_the_enumerated_bound() -> None:
    """On 2 binary latents and k = 2, the mean over draws is ∇L_2 summed over all 16 pairs."""
    machine = build_machine((3, 2), torch.tensor([0.2, 0.5, 0.7]), 0).double()
    with torch.no_grad():
        for parameter in machine.parameters():
            parameter.add_(0.3 * torch.ones_like(parameter))
    parameters = [*machine.parameters()]
    x = torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64)
    chain, context = machine.chain, torch.zeros(1, 1, dtype=torch.float64)
    p, q = chain.generate(context), chain.recognise(context)
    law = chain.recognition[0](x, q[0])
    codes = [torch.tensor([bits], dtype=torch.float64) for bits in product((0.0, 1.0), repeat=2)]
    log_q = torch.stack([law.log_prob(h) for h in codes])
    log_p = torch.stack([chain.decode(p, (h,)).log_prob(x) + p.prior.log_prob(h) for h in codes])
    log_w = log_p - log_q
    pairs = torch.logaddexp(log_w[:, None], log_w[None]) - math.log(2)
    bound = (torch.exp(log_q[:, None] + log_q[None]) * pairs).sum()
    exact = torch.cat([g.flatten() for g in torch.autograd.grad(bound, parameters)])

    n = 20_000
    rows = x.expand(n, 3)
    generator = torch.Generator().manual_seed(0)
    loss, found = losses(machine, "vimco", 2, rows, generator)
    mean = torch.cat([g.flatten() for g in torch.autograd.grad(-loss.mean(), parameters)])
    assert found.mean().item() == pytest.approx(bound.item(), abs=0.02)
    torch.testing.assert_close(mean, exact, rtol=0.0, atol=0.02)
    assert exact.abs().max() > 0.1


def test_dreams_train_the_encoder_alone() -> None:
    """log q of the machine's own fantasies reaches every parameter of q and none of p."""
    machine = build_machine((784, 6, 3), torch.full((784,), 0.3), 0)
    dreams = dream(machine, 8, torch.Generator().manual_seed(0))
    names, parameters = zip(*machine.named_parameters(), strict=True)
    gradients = torch.autograd.grad(dreams.mean(), parameters, allow_unused=True)
    moved = {name for name, g in zip(names, gradients, strict=True) if g is not None}
    assert moved == {name for name in names if "recognition" in name}


@pytest.mark.parametrize("method", METHODS)
def test_machines_learn(method: str) -> None:
    """Each method lowers the test NLL of a tiny machine by several nats."""
    digits = Digits(
        drawn_digits(600, torch.Generator().manual_seed(1)),
        drawn_digits(50, torch.Generator().manual_seed(2)),
    )
    _, curve = train_machine(
        method, digits, sizes=(784, 20, 10), k=5, epochs=6, batch_size=30,
        learning_rate=1e-2, seed=0, test_images=50, test_k=50,
    )  # fmt: skip
    assert [epoch for epoch, _ in curve] == [0, 2, 3, 4, 6]
    assert curve[-1][1] < curve[0][1] - 8.0


# -- the experiment --------------------------------------------------------------------------------


def test_debug_preset_runs_whole(tmp_path: Path) -> None:
    """A table with its command and a picture for every part; another seed is refused."""
    run(tmp_path, preset="debug", parts=["linear", "helmholtz"])
    records = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert set(records) == {"gradients-linear", "gradients-helmholtz"}
    for name, record in records.items():
        part = name.removeprefix("gradients-")
        assert record["command"] == f"vaerl experiment gradients --preset debug --parts {part}"
        assert all(len(row) == len(record["columns"]) for row in record["rows"])
        assert (tmp_path / "figures" / f"{name}.png").exists()
    with pytest.raises(ValueError, match=r"gradients-linear\.json: .*seed: got 0, expected 1"):
        run(tmp_path, preset="debug", parts=["linear"], seed=1)
    run(tmp_path / "other", preset="debug", parts=["linear"], seed=1)
    other = json.loads((tmp_path / "other" / "gradients-linear.json").read_text())
    assert other["data"] != records["gradients-linear"]["data"]


def test_progress_counts_every_epoch() -> None:
    """Of a machine and of the network, in order, and every gradient that is measured."""
    digits = Digits(
        drawn_digits(100, torch.Generator().manual_seed(1)),
        drawn_digits(5, torch.Generator().manual_seed(2)),
    )
    epochs: list[int] = []
    train_machine(
        "rws", digits, sizes=(784, 4, 2), k=2, epochs=3, batch_size=50,
        learning_rate=1e-2, seed=0, test_images=5, test_k=2, tick=epochs.append,
    )  # fmt: skip
    assert epochs == [1, 2, 3]
    trained: list[int] = []
    measured: list[int] = []
    cell = Autoencoder(1, "iwae", 2, ((2, 2),), batch_size=50, images="drawn")
    measure_network(digits, cell, (0, 2), (2,), 2, 3, trained.append, measured.append)
    assert trained == [1, 2]
    assert measured == [2 * n for n in range(1, 2 * len(ESTIMATORS) + 1)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parts": ["liner"]}, "did you mean 'linear'"),
        ({"threads": 0}, "^threads: got 0, expected a whole number of at least 1"),
        ({"seed": -1}, "^seed: got -1, expected a whole number from 0"),
    ],
)
def test_bad_options_raise_one_line(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "never", preset="debug", **options)
    assert not (tmp_path / "never").exists()
