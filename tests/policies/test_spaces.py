"""Spaces that no density can act in are refused in one line that names what is legal."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN

from tests.policies.common import ACT, DICT_OBS, OBS, TinyEnv, ac_policy, sac_policy
from vaerl.agents import SAC
from vaerl.policies.spaces import check_action_space, default_features_extractor

BAD = {
    "discrete": spaces.Discrete(3),
    "multi-binary": spaces.MultiBinary(2),
    "integer": spaces.Box(0, 5, (2,), np.int64),
    "unbounded": spaces.Box(-np.inf, 1.0, (2,), np.float32),
    "zero-width": spaces.Box(np.float32([0, 1]), np.float32([1, 1])),
    "scalar": spaces.Box(-1.0, 1.0, (), np.float32),
    "empty": spaces.Box(-1.0, 1.0, (0,), np.float32),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("make", [sac_policy, ac_policy])
def test_action_spaces_without_room_for_a_density_are_refused(make, name: str) -> None:
    """One line names the argument, what was given and what is legal."""
    with pytest.raises(ValueError, match=r"^action_space: got .*, expected ") as caught:
        make(act=BAD[name])
    assert "\n" not in str(caught.value)


def test_a_float_box_is_legal() -> None:
    """The checked space is handed on."""
    assert check_action_space(ACT) is ACT


@pytest.mark.parametrize(
    ("space", "extractor"),
    [
        (OBS, FlattenExtractor),
        (DICT_OBS, CombinedExtractor),
        (spaces.Box(0, 255, (3, 36, 36), np.uint8), NatureCNN),
        (spaces.Box(0, 255, (1, 36, 40), np.uint8), NatureCNN),
        (spaces.Box(0, 255, (3, 8, 8), np.uint8), FlattenExtractor),
        (spaces.Discrete(4), FlattenExtractor),
    ],
)
def test_the_features_extractor_follows_the_observation_space(space, extractor) -> None:
    """One class serves vectors, dicts and images; images too small for the CNN are flattened."""
    assert default_features_extractor(space) is extractor
    assert sac_policy("gaussian", obs=space).features_extractor_class is extractor


UNREADABLE = [
    spaces.Discrete(5, start=3),
    spaces.MultiDiscrete([2, 3], start=[1, 0]),
    spaces.MultiDiscrete([[2, 3], [2, 3]]),
    spaces.Tuple((OBS, OBS)),
    spaces.Text(3),
    spaces.Dict({}),
    spaces.Dict({"a": DICT_OBS}),
    spaces.Dict({"a": OBS, "b": spaces.Discrete(2, start=-1)}),
]


@pytest.mark.parametrize("space", UNREADABLE, ids=str)
@pytest.mark.parametrize("make", [sac_policy, ac_policy])
def test_observations_that_sb3_cannot_encode_are_refused(make, space: spaces.Space) -> None:
    """When the policy is built, in one line that names the part."""
    with pytest.raises(ValueError, match=r"^observation_space(\['[ab]'\])?: got .*, expected "):
        make(obs=space)


def test_an_agent_refuses_them_before_it_makes_its_buffer() -> None:
    """The line is ours, whatever SB3 does with such a space."""

    class Env(TinyEnv):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = spaces.Discrete(5, start=3)

    with pytest.raises(ValueError, match=r"^observation_space: got Discrete"):
        SAC("gaussian", Env(), buffer_size=10)
