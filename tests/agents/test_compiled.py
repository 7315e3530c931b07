"""What `Compiled` does where torch compiles, where it does not, and where it has had enough."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.agents.test_sac_options import agent_of, update
from vaerl.agents import compiled
from vaerl.agents.compiled import Compiled
from vaerl.agents.critics import Layer, regression


def critics_of(width: int) -> list[list[Layer]]:
    """One linear critic over so many inputs."""
    return [[(torch.randn(1, width), torch.randn(1), torch.float32)]]


def check(run: Compiled, rows: int, width: int = 3) -> None:
    """The function's own numbers for that batch."""
    args = critics_of(width), torch.randn(rows, width), torch.randn(rows, 1)
    for expected, value in zip(regression(*args), run(*args), strict=True):
        torch.testing.assert_close(value, expected)


def test_many_networks_in_one_process_do_not_switch_compiling_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Torch's limit of recompilations is for each of them, not for all."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    with torch._dynamo.config.patch(recompile_limit=2), warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for width in (2, 3, 4, 5):
            check(Compiled(regression), 4, width)
        run = Compiled(regression)
        for rows in (4, 5, 6, 7):
            check(run, rows)
    assert regression not in run.by_shape.values()


def compile_but(*refused: int) -> tuple[Any, list[int]]:
    """In place of torch.compile: fails for some numbers of rows, and lists those that it ran."""
    ran: list[int] = []

    def fake(function: Any, **_: Any) -> Any:
        def run(networks: Any, x: Tensor, target: Tensor) -> Any:
            if len(x) in refused:
                raise OSError("no")
            ran.append(len(x))
            return function(networks, x, target)

        return run

    return fake, ran


def test_past_the_most_shapes_a_function_runs_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says so, once; those that are compiled stay so."""
    fake, ran = compile_but()
    monkeypatch.setattr(torch, "compile", fake)
    monkeypatch.setattr(compiled, "MOST_SHAPES", 2)
    run = Compiled(regression)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for rows in (4, 5, 6, 7, 6, 4, 5):
            check(run, rows)
    assert ran == [4, 5, 4, 5] and len(run.by_shape) == 3
    (line,) = [str(warning.message) for warning in said]
    assert line.startswith("compile: compiled for 2 shapes") and line.endswith("(6, 3) and (6, 1)")


def test_one_shape_that_fails_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    fake, ran = compile_but(5)
    monkeypatch.setattr(torch, "compile", fake)
    run = Compiled(regression)
    with pytest.warns(RuntimeWarning, match=r"failed for a batch of \(5, 3\)") as said:
        for rows in (4, 5, 6, 5, 4):
            check(run, rows)
    assert ran == [4, 6, 4] and len(said) == 1


def test_where_nothing_compiles_the_update_runs_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says why, once; the numbers are those of an update that is not compiled."""

    def no_compiler(function: Any, **_: Any) -> Any:
        def fails(*args: Any) -> Any:
            raise OSError("No working C++ compiler found\nin three lines\nor more")

        return fails

    monkeypatch.setattr(torch, "compile", no_compiler)
    agents = [agent_of("gaussian", {"net_arch": [8]}, compile=flag) for flag in (False, True)]
    update(agents[0], 2, 16)
    with pytest.warns(RuntimeWarning) as said:
        update(agents[1], 2, 16)
    (line,) = [str(warning.message) for warning in said]
    assert line.startswith("compile: ") and line.endswith("OSError: No working C++ compiler found")
    for name, value in agents[0].policy.state_dict().items():
        assert torch.equal(value, agents[1].policy.state_dict()[name]), name


def test_a_fault_of_the_function_itself_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is raised, as it would be without compiling."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    run = Compiled(regression)
    with pytest.warns(RuntimeWarning), pytest.raises(TypeError):
        run(None, torch.zeros(1, 2), torch.zeros(1, 1))


def test_results_of_a_cuda_graph_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next replay writes over its own results, not over those that were handed out."""
    static, modes = torch.zeros(2), []

    def replayed(function: Any, *, mode: str | None, **_: Any) -> Any:
        modes.append(mode)
        return lambda x: (static.copy_(x),)

    monkeypatch.setattr(torch, "compile", replayed)
    run = Compiled(lambda x: (x,), "cuda")
    first, second = run(torch.ones(2)), run(torch.zeros(2))
    assert first[0].tolist() == [1.0, 1.0] and second[0].tolist() == [0.0, 0.0]
    assert modes == ["reduce-overhead"]
