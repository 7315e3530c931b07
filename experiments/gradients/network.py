"""Variance of encoder gradients on the network of Burda et al., along its training."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vaerl.densities.cvae import CVAE
from vaerl.experiments.gradients.estimators import ESTIMATORS, NEEDS_TWO, surrogate
from vaerl.experiments.iwae.cell import Autoencoder, Training
from vaerl.experiments.iwae.mnist import Digits, binarise
from vaerl.experiments.iwae.networks import nothing


@dataclass(frozen=True)
class Spread:
    """Mean and variance of an estimator over its draws, summed over the parameters.

    `signal` is ‖E g‖² without the bias of the finite number of draws, `variance` the trace of the
    covariance of one draw.
    """

    signal: float
    variance: float

    @property
    def snr(self) -> float:
        """√(‖E g‖² / trace Var g), 0 where the mean is lost in the noise."""
        return (max(0.0, self.signal) / self.variance) ** 0.5


def spread(draws: Iterable[Tensor]) -> Spread:
    """Of gradient vectors, one a draw: the rows of a matrix, or a stream of which none is kept.

    >>> found = spread(torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
    >>> found.variance, found.signal
    (2.0, 3.0)
    """
    if isinstance(draws, Tensor):
        variance = draws.double().var(0).sum().item()
        mean = draws.double().mean(0)
        return Spread(mean.square().sum().item() - variance / len(draws), variance)
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for count, draw in enumerate(draws, start=1):  # Welford's update, in float64
        step = draw.double() - mean
        mean = mean + step / count
        squares = squares + step * (draw.double() - mean)
    variance = squares.sum().item() / (count - 1)
    return Spread(mean.square().sum().item() - variance / count, variance)


def network_spread(
    density: CVAE, name: str, k: int, x: Tensor, draws: int, generator: torch.Generator
) -> Spread:
    """Spread of the encoder's gradient, averaged over the images x ``(n, 784)``, which stay."""
    parameters = [*density.chain.recognition.parameters()]

    def each() -> Iterator[Tensor]:
        for _ in range(draws):
            value = surrogate(density, name, k, nothing(len(x)), x, generator).mean()
            gradient = torch.autograd.grad(value, parameters)
            yield torch.cat([part.flatten() for part in gradient])

    return spread(each())


def measure_network(
    digits: Digits,
    cell: Autoencoder,
    marks: Sequence[int],
    samples: Sequence[int],
    draws: int,
    images: int,
    trained: Callable[[int], None] = lambda epochs: None,
    measured: Callable[[int], None] = lambda total: None,
) -> dict[int, dict[str, dict[int, Spread]]]:
    """Spreads by epoch, estimator and k, along the training of `cell`.

    Args:
        digits: images to train on; the first `images` test images are those of the gradient.
        cell: the network and its training.
        marks: epochs after which it is measured, the last one at most that of the plan.
        samples: numbers of samples k.
        draws: gradients drawn for each.
        images: size of the fixed batch.
        trained: gets the number of epochs done, after every one.
        measured: gets the sum of all k measured, after every estimator and k.
    """
    training = Training(cell, digits.train)
    x = binarise(digits.test[:images], torch.Generator().manual_seed(cell.seed + 1))
    found: dict[int, dict[str, dict[int, Spread]]] = {}
    done = 0
    for mark in marks:
        while training.done < mark:
            training.round()
            trained(training.done)
        density = copy.deepcopy(training.density)
        found[mark] = {name: {} for name in ESTIMATORS}
        for name in ESTIMATORS:
            for k in (k for k in samples if k > 1 or name not in NEEDS_TWO):
                generator = torch.Generator().manual_seed(cell.seed + 2)
                found[mark][name][k] = network_spread(density, name, k, x, draws, generator)
                done += k
                measured(done)
    return found
