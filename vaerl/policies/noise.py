"""The noise of one policy head: its own random stream, so that global streams are left alone."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from vaerl.densities.noise import RowGenerators
from vaerl.policies.builder import building_agent

_WORD = 0xFFFFFFFF
_WINDOWS = 1 << 31  # windows begin here, beyond the places that the stream itself reaches


class NoiseSource(nn.Module):
    """A random stream that belongs to a policy head and travels with its state.

    The state is two whole numbers, a seed and the number of calls so far; every call seeds a
    generator from both. So the state is the same on every device, copies with `copy.deepcopy` and
    `.to`, and is saved and loaded with `state_dict` (as one small float tensor, exact up to 2^53
    calls).

    The first seed is derived from the state of torch's global generator without drawing from it: a
    seeded run repeats, and no other stream shifts. With a `space`, which SB3's `set_random_seed`
    seeds together with torch, the stream restarts from that seed too. A source that a seeded agent
    builds keeps its stream when it loads one that began elsewhere: `load(seed=…)` of SB3 decides.

    >>> noise = NoiseSource(seed=1)
    >>> a = torch.rand(2, generator=noise.generator())
    >>> noise.reseed(1)
    >>> torch.equal(a, torch.rand(2, generator=noise.generator()))
    True
    """

    def __init__(self, seed: int | None = None, space: Any = None) -> None:
        super().__init__()
        self._space = space
        if seed is None:
            digest = hashlib.sha256(torch.get_rng_state().numpy().tobytes()).digest()
            seed = int.from_bytes(digest[:4], "little")
        self._generators: dict[torch.device, torch.Generator] = {}
        self.reseed(seed)
        agent = building_agent()
        self._keeps = agent is not None and agent.seed is not None

    def reseed(self, seed: int) -> None:
        """Restart the stream from `seed` (taken modulo 2^32)."""
        self.seed, self.calls = int(seed) & _WORD, 0
        self._note()

    def next_seed(self) -> int:
        """A 32-bit number that no other call of this stream returns (up to 2^32 calls)."""
        self._follow()
        self.calls += 1
        return self._number(self.calls)

    def _note(self) -> None:
        self._noted = getattr(self._space, "_np_random", None)

    def _follow(self) -> None:
        """Restart if the space has a new generator, seeded with the number that torch has."""
        made = getattr(self._space, "_np_random", None)
        if made is self._noted:
            return
        self._note()
        if made is not None and made.bit_generator.seed_seq.entropy == torch.initial_seed():
            self.reseed(torch.initial_seed())

    def _number(self, place: int) -> int:
        """The number at a place of the stream."""
        x = (self.seed + place * 0x9E3779B9) & _WORD
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):  # a bijection of 32 bits
            x = ((x ^ (x >> shift)) * factor) & _WORD
        return x ^ (x >> 16)

    def in_windows(self, windows: Tensor, device: torch.device | str = "cpu") -> RowGenerators:
        """Noise in which row i draws from window ``windows[i]``, a whole number.

        A window repeats its noise at every call; the stream itself does not advance.

        >>> from vaerl.densities.noise import standard_normal
        >>> noise, windows = NoiseSource(seed=1), torch.tensor([0, 3])
        >>> draws = [
        ...     standard_normal((2, 4), torch.zeros(1), noise.in_windows(w))
        ...     for w in (windows, windows, windows + 1)
        ... ]
        >>> torch.equal(draws[0], draws[1]), torch.equal(draws[0], draws[2])
        (True, False)
        """
        self._follow()
        each, rows = windows.unique(return_inverse=True)
        seeds = [self._number(_WINDOWS + 4 * int(window) + 1) for window in each]
        return RowGenerators([torch.Generator(device).manual_seed(s) for s in seeds], rows.tolist())

    def generator(self, device: torch.device | str = "cpu") -> torch.Generator:
        """A generator on `device`, freshly seeded for one call; valid until the next one."""
        device = torch.device(device)
        if device not in self._generators:
            self._generators[device] = torch.Generator(device)
        return self._generators[device].manual_seed(self.next_seed())

    def repeated(self, device: torch.device | str = "cpu") -> torch.Generator:
        """A generator for the next place of the stream, which stays where it is."""
        self._follow()
        return torch.Generator(device).manual_seed(self._number(self.calls + 1))

    def get_extra_state(self) -> Tensor:
        """Seed and calls, a float64 tensor ``(2,)``."""
        return torch.tensor([self.seed, self.calls], dtype=torch.float64)

    def set_extra_state(self, state: Any) -> None:
        """Continue the stream of the source that `get_extra_state` was called on."""
        seed, calls = (float(value) for value in state)
        self.reseed(int(seed))
        self.calls = int(calls)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *rest: Any, **options: Any
    ) -> None:
        own = self.seed, self.calls
        super()._load_from_state_dict(state_dict, prefix, *rest, **options)
        if self._keeps and self.seed != own[0]:
            self.seed, self.calls = own

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_generators": {}}  # torch's generators cannot be pickled
