"""Where the native update is missing or does not apply, torch's takes its place, and the log says
so."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
from stable_baselines3.common.logger import HumanOutputFormat, Logger

from tests.native.test_update import agent, assert_alike
from tests.policies.common import TinyEnv
from tests.speed import in_plain_shell
from vaerl.agents import SAC
from vaerl.agents.finite import named
from vaerl.densities import make_density
from vaerl.disk.errors import NotFinite
from vaerl.native import library
from vaerl.threads import limit_threads

UNCOVERED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "actor cvae": ("cvae", {"density_kwargs": {"latent_dims": (2, 2)}}, {}),
    "actor gaussian": ("gaussian", {"density_kwargs": {"variance": "fixed"}}, {}),
    "actor flow": ("flow", {}, {}),
    "activations other than ReLU": ("gaussian", {"activation_fn": torch.nn.Tanh}, {}),
    "critic FourierCritic": ("gaussian", {"critic_frequencies": 2}, {}),
    "weight_decay": ("gaussian", {"optimizer_kwargs": {"weight_decay": 0.1}}, {}),
    "improvement='both'": ("gaussian", {}, {"improvement": "both"}),
    "native=False": ("gaussian", {}, {"native": False}),
    "critic CriticNet": ("gaussian", {}, {"critic": "xqc", "scale_rewards": True}),
    "critic CriticNet with": (
        "gaussian",
        {},
        {"critic": "simba", "critic_options": {"last_norm": "rms"}},
    ),
    "CriticNet with these options": (
        "gaussian",
        {"net_arch": {"pi": [8], "qf": [8]}},
        {"critic": "crossq", "critic_options": {"last_norm": "batch"}},
    ),
    "activations of the critic": (
        "gaussian",
        {"activation_fn": torch.nn.Tanh, "net_arch": {"pi": [], "qf": [8]}},
        {"critic": "simba"},
    ),
    "optimizer SGD": ("gaussian", {"optimizer_class": torch.optim.SGD}, {}),
}


@pytest.fixture
def log(tmp_path: Path) -> Any:
    """A logger, and the text that it has written."""
    path = tmp_path / "log.txt"
    logger = Logger(None, [HumanOutputFormat(str(path))])
    return logger, lambda: path.read_text()


@pytest.mark.parametrize("reason", UNCOVERED)
def test_what_is_not_covered_trains_in_torch(reason: str, log: Any) -> None:
    """One line names the reason, once."""
    density, policy, options = UNCOVERED[reason]
    policy = {"net_arch": [8], **policy}
    made = SAC(
        density, TinyEnv(), policy_kwargs=policy, learning_starts=20, batch_size=8, **options
    )
    logger, text = log
    made.set_logger(logger)
    made.learn(24)
    (line,) = [line for line in text().splitlines() if line.startswith("update:")]
    assert line.startswith("update: torch") and reason in line


def test_the_log_says_that_it_is_native(log: Any) -> None:
    """With the variant and the number of threads."""
    logger, text = log
    made = SAC("cvae", TinyEnv(), policy_kwargs={"net_arch": [8]}, learning_starts=20, batch_size=8)
    made.set_logger(logger)
    made.learn(24)
    assert f"update: native, {library.load()[0]}" in text()


def test_a_precision_without_effect_is_named(log: Any) -> None:
    """Where torch updates; a precision that nobody knows is refused."""
    logger, text = log
    options = {"policy_kwargs": {"net_arch": [8]}, "learning_starts": 20, "batch_size": 8}
    made = SAC("flow", TinyEnv(), matmul_precision="bf16", **options)
    made.set_logger(logger)
    made.learn(22)
    assert "matmul_precision='bf16' has no effect" in text()
    with pytest.raises(
        ValueError, match=r"matmul_precision: got 'half', expected one of float32, bf16"
    ):
        SAC("gaussian", TinyEnv(), matmul_precision="half")


def test_a_broken_library_costs_one_line(tmp_path: Path, monkeypatch: Any) -> None:
    """Files that are no libraries, lack a function or are cut off; and the switch."""
    name = next(iter(library.VARIANTS))
    with pytest.raises(library.Missing, match="no compiler"):
        library.load(None, tmp_path)
    (whole,) = library.FOLDER.glob(f"_{library.load()[0]}.*.so")
    for content in (b"", b"not a library", whole.read_bytes()[:20_000]):
        folder = tmp_path / str(len(content))
        folder.mkdir()
        (folder / f"_{name}.x.so").write_bytes(content)
        with pytest.raises(library.Missing, match=rf"_{name}.x.so does not load"):
            library.load(name, folder)
    monkeypatch.setenv("VAERL_NATIVE", "0")
    off = "all computations in torch: switched off by VAERL_NATIVE=0"
    assert library.lines() == [("none", off)]
    monkeypatch.setenv("VAERL_NATIVE", str(tmp_path / "none.so"))
    with pytest.raises(library.Missing, match=r"none\.so does not load"):
        library.load()
    folded: Any = make_density("cvae", context_dim=2, event_dim=1).fold()
    assert folded(torch.zeros(3, 2)).shape == (3, 1)


def test_hooks_and_frozen_parameters_end_it(log: Any) -> None:
    """Also in the middle of training: the hook is called, the parameter stays."""
    made, calls = agent("gaussian"), []
    batch = made.replay_buffer.sample(made.batch_size)
    made._update(batch)
    handle = made.critic.qf0.register_forward_hook(lambda *_: calls.append(1))
    made._update(batch)
    assert calls
    handle.remove()
    other = agent("gaussian")
    other._update(batch)
    frozen = other.critic.qf0[0].weight.requires_grad_(False)
    before = frozen.clone()
    other._update(batch)
    assert torch.equal(frozen, before)


def test_an_optimizer_state_that_is_loaded_counts() -> None:
    """The moments of the loaded state are those of the next update."""
    agents = [agent("gaussian"), agent("gaussian", native=False)]
    batch = agents[0].replay_buffer.sample(agents[0].batch_size)
    for each in agents:
        before = each.actor.optimizer.state_dict()
        before = {
            **before,
            "state": {k: {n: t.clone() for n, t in v.items()} for k, v in before["state"].items()},
        }
        each._update(batch)
        each._update(batch)
        each.actor.optimizer.load_state_dict(before)
    assert_alike(agents, [each._update(batch) for each in agents])


def test_numbers_that_are_not_finite_raise_torchs_error() -> None:
    """In one line, and without a step."""
    made = agent("cvae")
    batch = made.replay_buffer.sample(made.batch_size)
    made._update(batch)
    before = {k: v.clone() for k, v in made.policy.state_dict().items()}
    bad = batch.observations.clone()
    bad[3] = torch.nan
    with pytest.raises(ValueError, match="context: 1 of 48 rows hold NaN"):
        made._update(batch._replace(observations=bad))
    assert all(
        torch.equal(v, before[k]) for k, v in made.policy.state_dict().items() if "noise" not in k
    )


def test_a_loss_that_is_not_finite_stops_it_before_a_step() -> None:
    """As in torch: its name is in the error, and the critics stay."""
    made = agent("cvae")
    batch = made.replay_buffer.sample(made.batch_size)
    made._update(batch)
    before = {k: v.clone() for k, v in made.critic.state_dict().items()}
    with pytest.raises(NotFinite, match="loss critic_loss is NaN"):
        made._update(batch._replace(rewards=batch.rewards * torch.nan))
    assert all(torch.equal(v, before[k]) for k, v in made.critic.state_dict().items())


def test_a_gradient_of_a_norm_that_is_not_finite_is_named() -> None:
    """Of critics made of parts, whose layers lie side by side."""
    made = agent("simba")
    batch = made.replay_buffer.sample(made.batch_size)
    made._update(batch)
    norm, head = made.critic.net[-2:]
    with torch.no_grad():  # 0 in front of the head, and 1e36 in it
        norm.scale.zero_()
        norm.shift.zero_()
        head.weight.fill_(1e36)
    with named(made), pytest.raises(NotFinite, match=r"gradient of policy\.critic\.net"):
        made._update(batch._replace(rewards=batch.rewards + 1e8))
    assert not norm.scale.any()


@pytest.mark.parametrize(("form", "critic"), [("gaussian", "sac"), ("simba, odd sizes", "simba")])
def test_targets_of_another_form_are_left_to_torch(form: str, critic: str) -> None:
    """The critic itself where it should have a target, and networks of other widths."""
    made = agent(form)
    made.policy.critic_target = made.policy.critic
    made._create_aliases()
    assert_left_to_torch(made, "a target network that is missing")
    made = agent(form)
    narrow = SAC("gaussian", TinyEnv(), critic=critic, policy_kwargs={"net_arch": [8, 8]})
    made.policy.critic_target = narrow.critic
    made._create_aliases()
    made._native.prepare(made, made.batch_size, "")
    assert made._native._plan is None and "of another form" in made._native._said


def test_shared_layers_are_left_to_torch() -> None:
    """Which train there as they are."""
    made = agent("crossq", policy_kwargs={"net_arch": {"pi": [8], "qf": [16, 16]}})
    made.critic.net[6] = made.critic.net[3]
    made.critic.optimizer = torch.optim.Adam(made.critic.parameters())
    assert_left_to_torch(made, "shared parameters")


def test_statistics_that_are_replaced_are_the_ones_that_move() -> None:
    """Running means and variances that another module brings."""
    made = agent("crossq")
    batch = made.replay_buffer.sample(made.batch_size)
    made._update(batch)
    layer = made.critic.net[0]
    layer.running_mean = torch.zeros_like(layer.running_mean)
    made._update(batch)
    assert bool(layer.running_mean.any()) and made._native._plan is not None


def assert_left_to_torch(made: SAC, reason: str) -> None:
    """An update works, and the log names the reason."""
    made._update(made.replay_buffer.sample(made.batch_size))
    assert made._native._plan is None and reason in made._native._said


def test_a_gradient_that_is_not_finite_is_named() -> None:
    """Where the loss is finite and its gradient overflows: torch's error, before the step."""
    made = agent("gaussian")
    batch = made.replay_buffer.sample(made.batch_size)
    made._update(batch)
    last = made.critic.qf0[-1]
    with torch.no_grad():  # the last hidden layer gives 1e-36, and what it is multiplied with 1e36
        made.critic.qf0[-3].weight.zero_()
        made.critic.qf0[-3].bias.fill_(1e-36)
        last.weight.fill_(1e36)
    with named(made), pytest.raises(NotFinite, match=r"gradient of policy\.critic\.qf0"):
        made._update(batch._replace(rewards=batch.rewards + 1e8))
    assert bool((last.weight == 1e36).all())


def test_forked_processes_update_too() -> None:
    """Two threads before the fork, in the child and afterwards: nothing waits for a lost thread."""
    with limit_threads(2):
        made = agent("cvae")
        batch = made.replay_buffer.sample(made.batch_size)
        made._update(batch)
        child = multiprocessing.get_context("fork").Process(target=made._update, args=(batch,))
        child.start()
        child.join(60)
        assert child.exitcode == 0
        made._update(batch)


def test_it_is_faster_than_torch() -> None:
    """In a plain shell, with default networks."""
    (ratio,) = in_plain_shell(SPEED)
    assert ratio > 1.2


SPEED = """
from tests.speed import speedup
from vaerl.agents import SAC
from vaerl.agents.finite import named
from vaerl.disk.errors import NotFinite
from vaerl.threads import limit_threads

def agent(native):
    made = SAC(
        "cvae", "Pendulum-v1", learning_starts=300, buffer_size=300, seed=0, native=native
    )
    made.learn(300)
    return made

with limit_threads():
    slow, fast = agent(False), agent(True)
    batch = fast.replay_buffer.sample(256)
    print(speedup(lambda: slow._update(batch), lambda: fast._update(batch), enough=1.4))
"""
