"""Agent options are checked before anything is built: legal ones pass, others cost one line."""

from __future__ import annotations

from typing import Any

import pytest

from vaerl.runs.agent_options import check_agent_options


@pytest.mark.parametrize(
    "options",
    [
        {"ent_coef": "auto_0.1"},
        {"ent_coef": "anneal_10_1", "improvement": "both"},
        {"ent_coef": "anneal_10_1_0.3"},
        {"target_entropy": "modes_4"},
        {"target_entropy": -3},
        {"target_entropy": "auto"},
        {"train_freq": [1, "episode"]},
    ],
)
def test_what_sac_takes_passes(options: dict[str, Any]) -> None:
    check_agent_options("sac", options)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ent_coef", "auto_0"),
        ("ent_coef", "anneal_10"),
        ("ent_coef", "anneal_1_0"),
        ("ent_coef", True),
        ("target_entropy", "modes_0"),
        ("target_entropy", "many"),
        ("gamma", 1.5),
    ],
)
def test_what_sac_refuses_is_named_in_one_line(name: str, value: Any) -> None:
    with pytest.raises(ValueError) as error:
        check_agent_options("sac", {name: value})
    text = str(error.value)
    assert f"{name}: got {value!r}" in text and "expected" in text and "\n" not in text
