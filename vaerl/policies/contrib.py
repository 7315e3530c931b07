"""Policies for unmodified sb3-contrib: its critics, with a density for an actor.

They need the extra `contrib`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from gymnasium import spaces
from sb3_contrib import TQC, CrossQ
from sb3_contrib.crossq.policies import CrossQPolicy as ContribCrossQPolicy
from sb3_contrib.tqc.policies import TQCPolicy as ContribTQCPolicy

from vaerl.policies.actor import DensityActor
from vaerl.policies.off_policy import OffPolicyDensity


class TQCPolicy(OffPolicyDensity, ContribTQCPolicy):  # type: ignore[misc]
    """sb3-contrib's TQC policy with a density for an actor (Kuznetsov et al. 2020).

    Args:
        n_quantiles, n_critics: as in sb3-contrib.
        others: as in `vaerl.policies.SACPolicy`, but for its critics.

    >>> from sb3_contrib import TQC
    >>> kwargs = {"density": "cvae"}
    >>> model = TQC(TQCPolicy, "Pendulum-v1", policy_kwargs=kwargs, buffer_size=10)
    >>> model.actor.density.name
    'cvae'
    """

    made_for = TQC


class CrossQActor(DensityActor):
    """The actor in CrossQ; it has no batch normalisation of its own."""

    def set_bn_training_mode(self, mode: bool) -> None:
        """Nothing to switch."""


class CrossQPolicy(OffPolicyDensity, ContribCrossQPolicy):  # type: ignore[misc]
    """sb3-contrib's CrossQ policy with a density for an actor (Bhatt et al. 2024).

    Batch renormalisation is in the critics alone.

    Args:
        batch_norm, batch_norm_momentum, batch_norm_eps, renorm_warmup_steps: of the critics.
        others: as in `vaerl.policies.SACPolicy`, but for its critics.

    Raises:
        ValueError: Dict observations, which that agent cannot join.
    """

    made_for = CrossQ
    actor_class = CrossQActor
    adam: ClassVar[dict[str, Any]] = {"betas": (0.5, 0.999), "fused": True}

    def __init__(self, observation_space: spaces.Space, *args: Any, **kwargs: Any) -> None:
        if isinstance(observation_space, spaces.Dict):
            raise ValueError(
                "observation_space: got a Dict, expected a Box: sb3-contrib's CrossQ cannot join "
                "Dict observations; vaerl.agents.SAC(critic='crossq') can"
            )
        super().__init__(observation_space, *args, **kwargs)

    def _actor_arguments(self) -> dict[str, Any]:
        own = super()._actor_arguments()
        return {key: value for key, value in own.items() if key not in self.batch_norm_params}
