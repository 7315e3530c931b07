"""Poisoned config.json."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.poison.changes import CONFIG, Case, content, value, without


def module(run: Path) -> None:
    """A module in the current folder that registers an environment, named by the run."""
    (run.parent / "evil.py").write_text("open('SENTINEL', 'w')\n")
    value(CONFIG, "env", to="evil:Evil-v0")(run)


DEEP: Any = 1
for _ in range(200):
    DEEP = [DEEP]
OPTION, KWARGS = "agent_options", ("agent_options", "policy_kwargs")


def configurations() -> Iterator[tuple[str, Case]]:
    """Cases of config.json."""
    plain: dict[tuple[str, ...], list[Any]] = {
        ("env",): [
            "this:Pendulum-v1",
            "os:system",
            "",
            "../x",
            "vaerl/Nothing-v0",
            5,
            None,
            "CartPole-v1",
            "Pendulum-v1",
            "x" * 100000,
            "a\nb",
        ],
        ("agent",): ["os.system", "mpc", "bc", "ppo", "", 5, None, ["sac"]],
        ("density",): ["torch.nn.Module", "cvae", "__class__", "", 7, None],
        ("density_options",): [5, [], {"layers": 1}, {"k": 10**9}, {"mean": "linear"}],
        ("dynamics",): ["cvae", 5, "os.system"],
        (OPTION,): [5, [1], {"x": 1}],
        (OPTION, "buffer_size"): [10**13, -1, 0, "x", 1e300, None],
        (OPTION, "batch_size"): [10**12, "x"],
        (OPTION, "learning_rate"): ["x", 1e300, -1, "lin_x", "lin_" + "1" * 400],
        (OPTION, "gradient_steps"): [10**12],
        (OPTION, "train_freq"): [[1, "x"], 10**12, {"a": 1}],
        (OPTION, "optimize_memory_usage"): [True],
        (OPTION, "n_steps"): [10**9],
        (OPTION, "use_sde"): [True],
        (OPTION, "replay_buffer_class"): [{"class": "os.system"}, {"class": "HerReplayBuffer"}, 5],
        (OPTION, "replay_buffer_kwargs"): [{"x": 1}],
        (OPTION, "action_noise"): [{"class": "ReLU"}, "x"],
        (OPTION, "stats_window_size"): [10**12, -1],
        (OPTION, "custom_objects"): [{}],
        (OPTION, "tensorboard_log"): ["logs"],
        (OPTION, "target_entropy"): ["x", 1e308],
        (OPTION, "diagnostics_interval"): [0, "x"],
        (*KWARGS, "net_arch"): [
            [30000] * 2,
            [1] * 20000,
            [-5],
            [0],
            "x",
            [[8]],
            {"pi": [10**6]},
            [1000.0],
            {"x": 1},
            DEEP,
        ],
        (*KWARGS, "activation_fn"): [{"class": "subprocess.Popen"}, {"class": "Adam"}, "eval"],
        (*KWARGS, "features_extractor_class"): [{"class": "NatureCNN"}, {"class": "ReLU"}],
        (*KWARGS, "optimizer_class"): [{"class": "ReLU"}],
        (*KWARGS, "optimizer_kwargs"): [{"lr": "x"}, {"x": 1}],
        (*KWARGS, "n_critics"): [10**9, 0, -1],
        (*KWARGS, "density_kwargs"): [{"x": 1}],
        ("env_options",): [
            5,
            {"speed": 1},
            {"id": "x"},
            {"entry_point": "os:system"},
            {"a": DEEP},
            {"vectorization_mode": "x"},
            {"render_mode": "human"},
            {"render_mode": 5},
        ],
        ("env_options", "max_episode_steps"): [-1, 0, 10**12, "x", 1.5, True],
        ("n_envs",): [10**12, 0, -1, "x", 1.5],
        ("steps",): [10**30, -1, "x", True],
        ("seed",): [-1, 10**40, "x", 1.5, True, None],
        ("device",): ["cuda:99", "evil", 5],
        ("out",): ["/proc/x", 5, "", "x" * 10_000],
        ("data",): ["/dev/zero", 5, "nowhere"],
        ("from_",): ["/dev/zero", 5],
        ("track",): [["evil"], "wandb", 5, [5]],
        ("eval_every",): ["x", -1, 10**30],
        ("final_episodes",): ["x", 10**12],
        ("video",): ["x"],
        ("wandb_mode",): ["evil", 5],
        ("versions",): [5, "x", {"vaerl": []}, {"vaerl": "9" * 10_000}],
        ("__class__",): ["x"],
    }
    for keys, values in plain.items():
        for number, given in enumerate(values):
            shown = f"{given!r:.30}"
            yield f"{'.'.join(keys)} {number} {shown}", value(CONFIG, *keys, to=given)
    for key in ("env", "agent", "density"):
        yield f"no {key}", without(CONFIG, key)
    yield "1e400", content(CONFIG, '{"env": "Pendulum-v1", "seed": 1e400}')
    yield "a module in the folder", module
