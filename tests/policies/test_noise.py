"""A head's noise is a stream of its own: it repeats, travels, and shifts no other stream."""

from __future__ import annotations

import copy
import io
import pickle

import torch
from gymnasium import spaces
from stable_baselines3.common.utils import set_random_seed

from vaerl.policies.noise import NoiseSource


def draws(noise: NoiseSource, count: int = 3) -> list[float]:
    return [torch.rand((), generator=noise.generator()).item() for _ in range(count)]


def test_making_and_using_a_source_leaves_the_global_stream_alone() -> None:
    """The global generator gives the same next number with and without noise sources."""
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    draws(NoiseSource())
    assert torch.equal(torch.rand(4), expected)


def test_equal_global_seeds_give_equal_streams_and_others_differ() -> None:
    """A seeded run repeats; two heads built one after the other do not share their noise."""
    torch.manual_seed(3)
    first = NoiseSource()
    torch.rand(1)  # building a network draws
    second = NoiseSource()
    torch.manual_seed(3)
    again = NoiseSource()
    a, b, c = draws(first), draws(second), draws(again)
    assert a == c
    assert a != b
    assert len(set(a)) == 3


def test_seeds_do_not_repeat() -> None:
    """Every call seeds its generator with a number no other call had."""
    noise = NoiseSource(seed=5)
    seeds = {noise.next_seed() for _ in range(20_000)}
    assert len(seeds) == 20_000


def test_state_survives_state_dict_copy_pickle_and_move() -> None:
    """Whatever way a source travels, its stream goes on where it was."""
    noise = NoiseSource(seed=5)
    draws(noise)
    other = NoiseSource(seed=6)
    buffer = io.BytesIO()
    torch.save(noise.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    travelled = [
        other,
        copy.deepcopy(noise),
        pickle.loads(pickle.dumps(noise)),
        copy.deepcopy(noise).to(torch.float16),
    ]
    expected = draws(noise)
    for twin in travelled:
        assert draws(twin) == expected


def test_sb3s_seed_reaches_the_stream() -> None:
    """Seeds of SB3 restart it, the same one too; a seed of the space alone or of torch does not."""
    space = spaces.Box(-1.0, 1.0, (1,))

    def seeded(noise: NoiseSource, seed: int) -> list[float]:
        set_random_seed(seed)  # the two calls of SB3's agents
        noise._space.seed(seed)
        space.sample()
        return draws(noise)

    noise = NoiseSource(seed=5, space=space)
    first = draws(noise)
    noise.reseed(5)
    space.sample()  # makes a generator
    assert draws(noise) == first
    one, other = seeded(noise, 1), seeded(noise, 2)
    assert one != other and one == seeded(noise, 1)
    state, expected = noise.get_extra_state(), draws(noise)
    space.seed(9)
    noise.set_extra_state(state)
    assert draws(noise) == expected
    assert draws(copy.deepcopy(noise)) == draws(noise)


def test_a_repeated_generator_leaves_the_stream_where_it_is() -> None:
    """Two of them agree, and the next draw is theirs."""
    noise = NoiseSource(seed=5)
    pair = [torch.rand((), generator=noise.repeated()).item() for _ in range(2)]
    assert pair == [draws(noise, 1)[0]] * 2
