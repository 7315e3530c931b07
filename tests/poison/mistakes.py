"""Mistakes on the command line, each with words that its one line holds."""

from __future__ import annotations

import os
from pathlib import Path

Mistake = tuple[list[str], str]
TRAIN = ["train", "sac", "--env", "Pendulum-v1", "--steps", "50", "--no-progress"]


def options(flag: str, values: dict[str, list[str]], base: list[str]) -> dict[str, Mistake]:
    """A mistake for each value of each option; the line names the option."""
    return {
        f"{' '.join(base[:2])} {flag} {name}={value}"[:80]: (
            [*base, flag, f"{name}={value}"],
            "" if name == "planner_kwargs" else name,
        )
        for name, given in values.items()
        for value in given
    }


def plain(base: list[str], values: dict[str, list[str]]) -> dict[str, Mistake]:
    """A mistake for each value of each plain option; the line names it."""
    return {
        f"{' '.join(base[:2])} {flag} {value}"[:80]: (
            [*base, flag, value],
            "" if flag in NAMED_OTHERWISE else flag.rpartition("-")[2],
        )
        for flag, given in values.items()
        for value in given
    }


NAMED_OTHERWISE = ("--from", "--env")  # by the words of what they name
NUMBERS = {
    "learning_rate": ["-1", "x", "1e300", "1e400", "[1]", "true", "lin_x", '""'],
    "buffer_size": ["0", "-1", "x", "1.5", "1e13", "10000000000000", "null"],
    "learning_starts": ["-1", "x", "1.5"],
    "batch_size": ["0", "-1", "x", "1.5", "[8]"],
    "tau": ["-0.1", "1.1", "x", "nan", "inf"],
    "gamma": ["-0.1", "1.1", "x", "{}", "null", "007", "-inf"],
    "train_freq": ["0", "-1", "x", '[1,"week"]', "[0,1]"],
    "gradient_steps": ["-2", "x", "0.5"],
    "target_update_interval": ["0", "-1", "x"],
    "ent_coef": ["-1", "x", "auto_", "auto_-1", "[1]"],
    "target_entropy": ["x", "[1]"],
    "stats_window_size": ["0", "x", "-1"],
    "optimize_memory_usage": ["x", "3"],
    "replay_buffer_class": ["x", '{"class":"os.system"}', '{"class":"ReLU"}', "5"],
    "action_noise": ["x", "3", "[1]"],
    "use_sde": ["true", "x"],
    "sde_sample_freq": ["x"],
    "policy_kwargs": [
        "x",
        "5",
        "[1]",
        '{"net_arc":[8]}',
        '{"net_arch":[-5]}',
        '{"net_arch":[0]}',
        '{"net_arch":"x"}',
        '{"n_critics":0}',
        '{"clip_mean":"x"}',
        '{"activation_fn":"ReLU"}',
        '{"activation_fn":{"class":"subprocess.Popen"}}',
        '{"optimizer_class":{"class":"os"}}',
    ],
    "seed": ["1"],
    "env": ["x"],
    "verbose": ["1"],
    "tensorboard_log": ["logs"],
    "learning_rat": ["1e-3"],
    "": ["1"],
}
ON_POLICY = {
    "n_steps": ["0", "-1", "x", "1.5"],
    "n_epochs": ["0", "x"],
    "clip_range": ["-1", "x"],
    "gae_lambda": ["2", "x"],
    "vf_coef": ["-1", "x"],
    "max_grad_norm": ["-1", "x"],
    "target_kl": ["-1", "x"],
    "buffer_size": ["100"],
}
DENSITY = {
    "latent_dims": ["[100000]", "[0]", "[-1]", "x", "0", "[1.5]", '["a"]'],
    "k": ["0", "-1", "x", "1.5", "true"],
    "objective": ["x", "5"],
    "prior": ["x", "5"],
    "latent_dim": ["[2]"],
    "hidden": ["[0]", "x", "[-5]", "1000000"],
}
PLAIN = {
    "--env": ["Pendulmu-v1", "x:Pendulum-v1", "CartPole-v1", "Nothing-v0", ":", "a b", "os:x"],
    "--density": ["cvea", "5", "gausian", "os.system"],
    "--steps": ["0", "-5", "many", "1.5", "1e5", "99999999999999999999"],
    "--seed": ["-1", "x", "1.5", "99999999999999999999"],
    "--n-envs": ["0", "-1", "x", "1000000"],
    "--device": ["gpu", "cuda:x", "mps", "cuda:99"],
    "--eval-every": ["-1", "x"],
    "--eval-episodes": ["0", "x"],
    "--final-episodes": ["0", "-1", "x"],
    "--picture-every": ["-1"],
    "--checkpoint-every": ["-1", "x"],
    "--track": ["wandbb", "csv,x"],
    "--wandb-mode": ["on", "5"],
    "--out": ["/proc/x", "/dev/null/x", "plain/x", "/proc/self/environ"],
    "--from": ["nowhere", "plain"],
    "--data": ["nowhere"],
    "--dynamics": ["cvae", "x"],
}
ENV = {
    "gee": ["1"],
    "g": ["007", "nan", "(1,2)", '"', "[1"],
    "max_episode_steps": ["-1", "0", "1e12", "x", "1000000000000"],
    "render_mode": ["human", "x"],
}
CHEETAH = {
    "frame_skip": ["0", "-1", "1000000000", "x"],
    "xml_file": ["5", "nowhere.xml", "/dev/zero", "pipe", "plain"],
    "reset_noise_scale": ["x"],
    "width": ["0", "1000000"],
}
PLANNER = {
    "planner": ["x", "5"],
    "planner_kwargs": [
        "5",
        '{"x":1}',
        '{"horizon":0}',
        '{"horizon":10000000}',
        '{"population":1000000000}',
        '{"iterations":1000000000}',
        '{"elites":-1}',
        '{"alpha":2}',
    ],
    "members": ["0", "x", "-1", "1000000"],
    "propagation": ["x"],
    "reward": ["x"],
    "termination": ["x"],
    "fit_kwargs": ['{"x":1}', "5"],
}
COLLECT = ["collect", "Pendulum-v1", "--out", "demos", "--no-progress"]
OTHERS: dict[str, Mistake] = {
    "eval nowhere": (["eval", "nowhere"], "no such run"),
    "eval here": (["eval", "."], "config.json"),
    "eval a file": (["eval", "plain"], "plain"),
    "eval a pipe": (["eval", "pipe"], "pipe"),
    "eval episodes": (["eval", "x", "--episodes", "0"], "--episodes"),
    "eval seed": (["eval", "x", "--seed", "-1"], "--seed"),
    "eval module": (["eval", "x", "--allow-module", "nowhere"], "nowhere"),
    "video nowhere": (["video", "nowhere"], "no such run"),
    "video frames": (["video", "x", "--frames", "0"], "--frames"),
    "video episodes": (["video", "x", "--episodes", "many"], "--episodes"),
    "report nowhere": (["report", "nowhere"], "no such run"),
    "report nothing": (["report"], "RUNS"),
    "report a file": (["report", "plain"], "plain"),
    "inspect nowhere": (["inspect", "nowhere"], "no such run"),
    "inspect draws": (["inspect", "x:y", "--draws", "0"], "--draws"),
    "inspect module": (["inspect", "nowhere:f"], "nowhere"),
    "inspect function": (["inspect", "math:nothing"], "nothing"),
    "inspect number": (["inspect", "math:pi"], "expected a function"),
    "inspect prior": (
        ["inspect", "math:sqrt", "--prior", "x", "--env", "vaerl/Bandit40-v0"],
        "prior",
    ),
    "inspect file": (["inspect", "math:sqrt", "--observations", "plain"], "observations"),
    "inspect pipe": (["inspect", "math:sqrt", "--observations", "pipe"], "observations"),
    "inspect data": (["inspect", "math:sqrt", "--data", "x"], "--data"),
    "list": (["list", "agent"], "agents"),
    "video a pipe": (["video", "pipe"], "pipe"),
    "report a pipe": (["report", "pipe"], "pipe"),
    "inspect episodes": (["inspect", "x:y", "--episodes", "-1"], "--episodes"),
    "list nothing": (["list"], "KIND"),
    "command": (["trian"], "train"),
    "option": (["train", "sac", "--envv", "x"], "--env"),
    "no agent": (["train"], "AGENT"),
    "agent": (["train", "sca", "--env", "Pendulum-v1"], "sac"),
    "no env": (["train", "sac"], "--env"),
    "both": ([*TRAIN, "--overwrite", "--resume"], "--overwrite"),
    "twice": ([*TRAIN, "--agent-option", "tau=1", "--agent-option", "tau=1"], "twice"),
    "no pair": ([*TRAIN, "--agent-option", "tau"], "NAME=VALUE"),
    "no data": (["train", "bc", "--env", "Pendulum-v1"], "data"),
    "data for sac": ([*TRAIN, "--data", "demos"], "data"),
    "experiment": (["experiment", "dmeo"], "demo"),
    "experiment option": (["experiment", "demo", "--jbos", "3"], "--jobs"),
    "experiment value": (["experiment", "demo", "--jobs", "few"], "--jobs"),
    "experiment preset": (["experiment", "demo", "--preset", "x"], "preset"),
    "collect nobody": ([*COLLECT, "--episodes", "1"], "driver"),
    "collect two": ([*COLLECT, "--expert", "--random", "--episodes", "1"], "driver"),
    "collect no number": ([*COLLECT, "--random"], "episodes"),
    "collect none": ([*COLLECT, "--random", "--episodes", "0"], "episodes"),
    "collect seed": ([*COLLECT, "--random", "--episodes", "1", "--seed", "-1"], "seed"),
    "collect expert": ([*COLLECT, "--expert", "--episodes", "1"], "expert"),
    "collect noise": ([*COLLECT, "--random", "--episodes", "1", "--noise", "-1"], "noise"),
    "collect run": ([*COLLECT, "--run", "nowhere", "--episodes", "1"], "no such run"),
    "collect zip": ([*COLLECT, "--sb3", "nowhere", "--episodes", "1"], "sb3"),
    "collect text": ([*COLLECT, "--sb3", "plain", "--episodes", "1"], "sb3"),
    "collect pipe": ([*COLLECT, "--sb3", "pipe", "--episodes", "1"], "sb3"),
    "collect function": ([*COLLECT, "--function", "math", "--episodes", "1"], "MODULE:FUNCTION"),
    "collect to": (["collect", "Pendulum-v1", "--random", "--episodes", "1", "--to", "x"], "to: "),
    "collect nowhere": (["collect", "Pendulum-v1", "--random", "--episodes", "1"], "out"),
}
MISTAKES: dict[str, Mistake] = {
    **options("--agent-option", NUMBERS, TRAIN),
    **options("--agent-option", ON_POLICY, ["train", "ppo", *TRAIN[2:]]),
    **options("--agent-option", PLANNER, ["train", "mpc", *TRAIN[2:]]),
    **options("--density-option", DENSITY, [*TRAIN, "--density", "cvae"]),
    **options("--env-option", ENV, TRAIN),
    **options("--env-option", CHEETAH, ["train", "sac", "--env", "HalfCheetah-v5"]),
    **plain(TRAIN, PLAIN),
    **OTHERS,
}


def world(folder: Path) -> None:
    """What the mistakes name: a text file and a pipe."""
    (folder / "plain").write_text("hello")
    os.mkfifo(folder / "pipe")
