"""Many proposals are evaluated in blocks, which changes memory and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vaerl.densities import latent, make_density


@pytest.mark.parametrize("generated", [False, True])
@pytest.mark.parametrize("latent_dims", [(3,), (3, 2)])
def test_blocks_give_the_bounds_and_gradients_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, generated: bool, latent_dims: tuple[int, ...]
) -> None:
    """No block is larger than the limit; sums of float32 differ by their order alone."""
    torch.manual_seed(0)
    density = make_density("cvae", context_dim=2, event_dim=2, latent_dims=latent_dims)
    value = density(torch.randn(4, 2))
    x, path = value.rsample_with_latents((), torch.Generator().manual_seed(1))
    given = tuple(h.detach() for h in path) if generated else None
    seen: list[int] = []
    decode = value.chain.decode

    def watched(p: Any, path: Any) -> Any:
        seen.append(path[0][..., 0].numel())
        return decode(p, path)

    monkeypatch.setattr(value.chain, "decode", watched)

    def bounds(limit: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        monkeypatch.setattr(latent, "GRADIENT_ROWS", limit)
        density.zero_grad()
        found = value.log_prob_bounds(x.detach(), 50, given, torch.Generator().manual_seed(2))
        sides = [side for side in found if side is not None]
        sum(side.sum() for side in sides).backward(retain_graph=True)  # type: ignore[union-attr]
        return sides, [p.grad for p in density.parameters() if p.grad is not None]

    whole = bounds(10**6)
    assert max(seen) >= 50 * 4
    seen.clear()
    blocks = bounds(40)
    assert max(seen) <= 40
    for one, other in zip(whole, blocks, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
