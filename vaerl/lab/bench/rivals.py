"""The agents that take turns: Stable-Baselines3's, sb3-contrib's, SBX's and ours, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium

TASK = "HalfCheetah-v5"
SBX, CROSSQ = "SBX gaussian", "sb3-contrib CrossQ"
SB3, GAUSSIAN, CVAE, DEEP = "SB3 gaussian", "vaerl gaussian", "vaerl cvae k=8", "vaerl cvae L=2 k=8"
DENSITIES: dict[str, tuple[str, dict[str, Any]]] = {
    GAUSSIAN: ("gaussian", {}),
    CVAE: ("cvae", {"num_auxiliary": 8}),
    DEEP: ("cvae", {"num_auxiliary": 8, "density_kwargs": {"latent_dims": (4, 4)}}),
}
BF16 = ", bf16"
"""Ends the names of agents whose update multiplies in bfloat16."""
TORCH = ", torch"
"""Ends the names of agents with `native=False`."""
PPO_CVAE = "vaerl cvae, 32 codes"
PPO_DENSITIES: dict[str, tuple[str, dict[str, Any]]] = {
    GAUSSIAN: ("gaussian", {}),
    PPO_CVAE: ("cvae", {"num_codes": 32}),
}
PPO_STEPS = 512
"""Environment steps of a rollout of PPO."""
START = 300
"""Environment steps before updates begin, here and in every rival."""


def make_sac(
    device: str,
    name: str = CVAE,
    env: Any = TASK,
    width: Sequence[int] = (256, 256),
    **options: Any,
) -> Any:
    """The SAC agent of ours that `DENSITIES` names, with hidden layers of these widths."""
    from vaerl.agents import SAC

    density, policy_kwargs = DENSITIES[name]
    policy_kwargs = {**policy_kwargs, "net_arch": list(width)}
    return SAC(density, env, policy_kwargs=policy_kwargs, seed=0, device=device, **options)


def make_ppo(device: str, name: str = PPO_CVAE) -> Any:
    """The PPO agent of ours that `PPO_DENSITIES` names."""
    from vaerl.agents import PPO

    density, policy_kwargs = PPO_DENSITIES[name]
    return PPO(
        density, TASK, n_steps=PPO_STEPS, seed=0, device=device, policy_kwargs=dict(policy_kwargs)
    )


def off_policy(
    device: str, sbx: bool = True, **options: Any
) -> tuple[dict[str, Any], dict[str, str]]:
    """SAC of stable-baselines3, of SBX where it is wanted and installed, and ours, by name.

    Then what is missing, and why. Without SBX they share one environment, which is not what is
    measured then.
    """
    from stable_baselines3 import SAC as SB3SAC

    env: Any = TASK if sbx else gymnasium.make(TASK)
    agents: dict[str, Any] = {SB3: SB3SAC("MlpPolicy", env, seed=0, device=device, **options)}
    missing: dict[str, str] = {}
    if sbx:
        try:
            agents[SBX] = _sbx_sac(device)("MlpPolicy", TASK, seed=0, **options)
        except ImportError as error:
            missing[SBX] = str(error)
    agents |= {name: make_sac(device, name, env, **options) for name in DENSITIES}
    return agents, missing


def in_bfloat16(device: str, **options: Any) -> dict[str, Any]:
    """Ours with products in bfloat16, where they can be."""
    options["matmul_precision"] = "bf16"
    return {name + BF16: make_sac(device, name, **options) for name in (GAUSSIAN, CVAE)}


def by_critic(device: str, **options: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """SAC with a Gaussian and each critic, at the widths of `vaerl experiment returns`; then what
    is missing, and why.

    Stable-Baselines3's SAC and sb3-contrib's CrossQ come first; ours in float32, in bfloat16, and
    those with an update of their own in the native library in torch as well.
    """
    from stable_baselines3 import SAC as SB3SAC

    widths = {"sac": [256] * 2, "crossq": [256] * 2, "xqc": [256] * 4} | {
        name: [128] * 2 for name in ("flash", "simba")
    }
    forms: dict[str, dict[str, Any]] = {
        "": {}, BF16: {"matmul_precision": "bf16"}, TORCH: {"native": False}
    }  # fmt: skip
    theirs = {"seed": 0, "device": device, **options}
    agents: dict[str, Any] = {SB3: SB3SAC("MlpPolicy", TASK, **theirs)}
    missing: dict[str, str] = {}
    try:
        from sb3_contrib import CrossQ
    except ImportError as error:
        missing[CROSSQ] = f"{error}; pip install 'vaerl[contrib]'"
    else:
        given = {"policy_kwargs": {"net_arch": widths["crossq"]}, **theirs}
        agents[CROSSQ] = CrossQ("MlpPolicy", TASK, **given)
    for name, width in widths.items():
        given = {**options, "width": width, "critic": name}
        if name == "crossq":
            given["policy_delay"] = 3  # as the agent of that name has it
        for ending, form in forms.items():
            if ending != TORCH or name in ("crossq", "simba"):
                agents[name + ending] = make_sac(device, GAUSSIAN, **given, **form)
    return agents, missing


def _sbx_sac(device: str) -> Any:
    """SBX's class; ImportError where it is not installed or would work on another device."""
    try:
        import jax
        from sbx import SAC
    except ImportError as error:
        raise ImportError(f"{error}; pip install 'vaerl[bench]'") from error
    found, wanted = jax.default_backend(), "cpu" if device == "cpu" else "gpu"
    if found != wanted:
        raise ImportError(f"jax would run it on {found}, not on {wanted}")
    return SAC
