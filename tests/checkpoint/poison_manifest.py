"""Checkpoints whose manifest is proper JSON, and lies: more cases for `poison.CASES`."""

from __future__ import annotations

from tests.checkpoint.poison import POLICY, at, case, edit

for _key in ("format", "agent", "progress", "modules", "optimizers", "rng", "files", "versions"):
    case(f"manifest without {_key}")(lambda d, k=_key: edit(d, lambda m: m.pop(k)))
for _format in (2, 99, 0, -1, True, "1", 1.0, None):
    case(f"format {_format!r}")(at("format", value=_format))
for _agent in (
    "os.system",
    "builtins.eval",
    "stable_baselines3.SAC",
    "SB3-SAC",
    "",
    "vaerl.agents",
):
    case(f"agent {_agent!r}")(at("agent", "name", value=_agent))
for _policy in ("torch.nn.Module", "__class__", "subprocess.Popen", 7):
    case(f"policy {_policy!r}")(at("agent", "policy", value=_policy))
ARGUMENTS = ("agent", "arguments")
KWARGS = (*ARGUMENTS, "policy_kwargs")
for _class in ("subprocess.Popen", "eval", "Bomb", ["ReLU"], None):
    case(f"activation class {_class!r}")(at(*KWARGS, "activation_fn", value={"class": _class}))
case("activation by text")(at(*KWARGS, "activation_fn", value="os.system"))
case("an optimizer as activation")(at(*KWARGS, "activation_fn", value={"class": "Adam"}))
case("an activation as optimizer")(at(*KWARGS, "optimizer_class", value={"class": "ReLU"}))
case("an extractor by text")(at(*KWARGS, "features_extractor_class", value="os.system"))
case("a buffer by text")(at(*ARGUMENTS, "replay_buffer_class", value="builtins.exec"))
case("a network as buffer")(at(*ARGUMENTS, "replay_buffer_class", value={"class": "ReLU"}))
case("an unknown argument")(at(*ARGUMENTS, "custom_objects", value={}))
case("an argument of the loader")(at(*ARGUMENTS, "_init_setup_model", value=True))
case("an environment by name")(at(*ARGUMENTS, "env", value="CartPole-v1"))
case("a log on disk")(at(*ARGUMENTS, "tensorboard_log", value="logs"))
case("an unknown policy argument")(at(*KWARGS, "__class__", value="x"))
for _arch in ([10**6, 10**6], [30_000, 30_000], [-5], ["8"], [8.5], 10**9, [2**62]):
    case(f"net_arch {_arch!r}")(at(*KWARGS, "net_arch", value=_arch))
case("a buffer of 10^15 rows")(at(*ARGUMENTS, "buffer_size", value=10**15))
case("a buffer of -1 rows")(at(*ARGUMENTS, "buffer_size", value=-1))
case("a schedule of texts")(at(*ARGUMENTS, "learning_rate", value={"schedule": ["a", "b", "c"]}))
case("a learning rate that is text")(at(*ARGUMENTS, "learning_rate", value="3e-4"))
case("10^9 environments")(at("agent", "n_envs", value=10**9))
SPACE = ("agent", "observation_space")
case("a space of no type")(at(*SPACE, value={}))
case("an unknown space")(at(*SPACE, "type", value="Graph"))
case("a huge space")(at(*SPACE, "shape", value=[2**20, 2**20]))
case("a negative space")(at(*SPACE, "shape", value=[-2]))
case("a space of objects")(at(*SPACE, "dtype", value="object"))
case("a space of another width")(at(*SPACE, "shape", value=[3]))
case("a space upside down")(at(*SPACE, "high", value=-9.0))
case("a space with bounds of text")(at(*SPACE, "low", value=["a", "b"]))
case("a Dict inside a Dict")(
    at(
        *SPACE,
        value={
            "type": "Dict",
            "spaces": [["a", {"type": "Dict", "spaces": [["b", {"type": "MultiBinary", "n": 2}]]}]],
        },
    )
)
case("an unbounded action space")(at("agent", "action_space", "high", value="inf"))
case("a discrete action space")(
    at("agent", "action_space", value={"type": "Discrete", "n": 2, "start": 0, "dtype": "int64"})
)
case("files as a list")(at("files", value=[]))
case("negative bytes")(at("files", POLICY, "bytes", value=-1))
case("bytes as text")(at("files", POLICY, "bytes", value="9"))
case("the hash of something else")(at("files", POLICY, "sha256", value="0" * 64))
case("a hash that is a number")(at("files", POLICY, "sha256", value=0))
case("a step below zero")(at("progress", "num_timesteps", value=-1))
case("a step that is a fraction")(at("progress", "num_timesteps", value=1.5))
case("a step of 10^18 + 1")(at("progress", "num_timesteps", value=10**18 + 1))
case("an alias to nowhere")(at("modules", "aliases", value={"policy/a": "policy/b"}))
case("an alias of a stored tensor")(
    at("modules", "aliases", value={"policy/actor.mu.bias": "policy/actor.mu.weight"})
)
case("aliases as a list")(at("modules", "aliases", value=[["a", "b"]]))
case("extra state for nobody")(at("modules", "extra", value={"policy/nobody": 1}))
case("extra state for a weight")(at("modules", "extra", value={"policy/actor.mu.weight": [1]}))
ADAM = ("optimizers", "actor.optimizer", "groups", 0)
case("no optimizer")(at("optimizers", value={}))
case("no groups")(at("optimizers", "actor.optimizer", "groups", value=[]))
case("parameters in another order")(
    lambda d: edit(d, lambda m: m["optimizers"]["actor.optimizer"]["groups"][0]["params"].reverse())
)
case("a learning rate of text")(at(*ADAM, "settings", "lr", value="fast"))
case("betas of text")(at(*ADAM, "settings", "betas", value=["a", "b"]))
case("an unknown setting")(at(*ADAM, "settings", "hook", value="os.system"))
case("foreach as text")(at(*ADAM, "settings", "amsgrad", value="yes"))
case("state of a tensor from nowhere")(
    at(
        "optimizers",
        "actor.optimizer",
        "state",
        value={"policy/actor.mu.bias": {"step": {"tensor": "x"}}},
    )
)
case("numpy's position out of its array")(at("rng", "numpy", "position", value=10**9))
case("numpy's position below zero")(at("rng", "numpy", "position", value=-1))
case("gauss as text")(at("rng", "python", "gauss_next", value="x"))
case("an action stream of words")(at("rng", "action_space", value={"state": "x", "inc": "1"}))
case("a normaliser without a file")(at("normalizer", value={"training": True}))
case("a replay buffer without a file")(at("replay", value={"rows": 5}))
