"""Random numbers of densities: one source for a batch, or one for each row."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vaerl.densities import make_density
from vaerl.densities.noise import Noise, RowGenerators, code_noise


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", ["gaussian", "mixture", "cvae", "imle", "flow"])
def test_each_row_draws_what_its_own_generator_gives_a_whole_batch(name: str) -> None:
    """Samples and folded draws of rows with generators of their own do not see each other."""
    torch.manual_seed(0)
    density = make_density(name, context_dim=2, event_dim=3)
    context, rows, folded = torch.randn(5, 2), [1, 0, 0, 1, 0], density.fold()

    def draws(noise: Noise) -> Tensor:
        x = density(context).sample((), noise)
        return x if folded is None else torch.cat((x, folded(context, noise).detach()), dim=-1)

    both = [draws(seeded(seed)) for seed in (3, 4)]
    expected = torch.stack([both[row][i] for i, row in enumerate(rows)])
    assert torch.equal(draws(RowGenerators([seeded(3), seeded(4)], rows)), expected)


def test_code_noise_is_uniform_then_normal() -> None:
    """Moments of 200,000 codes: U[0, 1) in the first column, N(0, 1) in the others."""
    noise = code_noise((400, 500), 2, torch.zeros((), dtype=torch.float64), seeded())
    assert noise.shape == (400, 500, 3)
    assert noise.dtype == torch.float64
    u, normal = noise.flatten(0, 1).split((1, 2), dim=-1)
    assert ((u >= 0.0) & (u < 1.0)).all()
    # five standard errors: of a mean sd/√n, of a standard deviation below 0.71 sd/√n
    n = len(u) ** 0.5
    torch.testing.assert_close(u.mean(), torch.tensor(0.5).double(), rtol=0, atol=5 * 0.29 / n)
    torch.testing.assert_close(normal.mean(0), torch.zeros(2).double(), rtol=0, atol=5 / n)
    torch.testing.assert_close(normal.std(0), torch.ones(2).double(), rtol=0, atol=5 * 0.71 / n)
