"""The noise of one policy head: its own random stream, so that global streams are left alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_WORD = 0xFFFFFFFF
_HELD = 1 << 31
_HELD_CALLS = 4  # of a visit at most before its numbers become the next window's


class NoiseSource(nn.Module):
    """A random stream that belongs to a policy head and travels with its state.

    The state is two whole numbers, a seed and the number of calls so far; every call seeds a
    generator from both. So the state is the same on every device, copies with `copy.deepcopy` and
    `.to`, and is saved and loaded with `state_dict` (as one small float tensor, exact up to 2^53
    calls).

    The first seed is derived from the state of torch's global generator without drawing from it: a
    seeded run repeats, and no other stream shifts.

    >>> noise = NoiseSource(seed=1)
    >>> a = torch.rand(2, generator=noise.generator())
    >>> noise.reseed(1)
    >>> torch.equal(a, torch.rand(2, generator=noise.generator()))
    True
    """

    def __init__(self, seed: int | None = None) -> None:
        super().__init__()
        if seed is None:
            digest = hashlib.sha256(torch.get_rng_state().numpy().tobytes()).digest()
            seed = int.from_bytes(digest[:4], "little")
        self._generators: dict[torch.device, torch.Generator] = {}
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Start the stream anew from `seed` (taken modulo 2^32)."""
        self.seed, self.calls = int(seed) & _WORD, 0

    def next_seed(self) -> int:
        """A 32-bit number that no other call of this stream returns (up to 2^32 calls)."""
        self.calls += 1
        x = (self.seed + self.calls * 0x9E3779B9) & _WORD
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):  # a bijection of 32 bits
            x = ((x ^ (x >> shift)) * factor) & _WORD
        return x ^ (x >> 16)

    @contextmanager
    def repeat(self, window: int) -> Iterator[None]:
        """Inside, begin where every other visit with that number began; after it, go on as if not.

        >>> noise = NoiseSource(seed=1)
        >>> seeds = []
        >>> for window in (0, 0, 1):
        ...     with noise.repeat(window):
        ...         seeds.append(noise.next_seed())
        >>> seeds[0] == seeds[1], seeds[1] == seeds[2], noise.calls
        (True, False, 0)
        """
        calls = self.calls
        self.calls = _HELD + window * _HELD_CALLS  # far from where the stream itself gets
        try:
            yield
        finally:
            self.calls = calls

    def generator(self, device: torch.device | str = "cpu") -> torch.Generator:
        """A generator on `device`, freshly seeded for one call; valid until the next one."""
        device = torch.device(device)
        if device not in self._generators:
            self._generators[device] = torch.Generator(device)
        return self._generators[device].manual_seed(self.next_seed())

    def get_extra_state(self) -> Tensor:
        """Seed and calls, a float64 tensor ``(2,)``."""
        return torch.tensor([self.seed, self.calls], dtype=torch.float64)

    def set_extra_state(self, state: Any) -> None:
        """Continue the stream of the source that `get_extra_state` was called on."""
        seed, calls = (float(value) for value in state)
        self.seed, self.calls = int(seed) & _WORD, int(calls)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_generators": {}}  # torch's generators cannot be pickled
