"""A density's value as the action distribution that SB3's on-policy algorithms ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from stable_baselines3.common.distributions import Distribution
from torch import Tensor

from vaerl.densities import ConditionalValue, IntractableError
from vaerl.densities.noise import Noise

REFUSE_TRPO = (
    "distribution: TRPO asks for a torch distribution with an analytic KL, which no density "
    "hands out; use PPO, whose target_kl works with all of them"
)


class DensityDistribution(Distribution):
    """π(a | s) at a batch of contexts, exact in `log_prob`: a = middle + half · x, x ~ value.

    With the value's density p_x, log π(a) = log p_x((a − middle) / half) − Σ_d log half_d.

    Args:
        value: the acting density, with an exact log-density.
        mode: the deterministic x.
        generator: gives the noise of each sample.
        entropy_generator: gives the noise of each estimate of the entropy.
        entropy_samples: fresh samples of an entropy estimate; 0 disables it.
        middle, half: the units of the actions, each ``(X,)``.
    """

    def __init__(
        self,
        value: ConditionalValue,
        mode: Callable[[], Tensor],
        generator: Callable[[], Noise],
        entropy_generator: Callable[[], Noise],
        entropy_samples: int,
        middle: Tensor,
        half: Tensor,
    ) -> None:
        super().__init__()
        assert value.exact, type(value)
        self.value, self._mode, self.generator = value, mode, generator
        self._entropy_generator = entropy_generator
        self.entropy_samples = entropy_samples
        self.middle, self.half = middle, half

    def sample(self) -> Tensor:
        """Actions ``(B, X)``, reparameterised; squashed ones where `log_prob` sees no edge."""
        x = self.value.inside(self.value.rsample(generator=self.generator()))
        return self.middle + self.half * x

    def mode(self) -> Tensor:
        """The deterministic action ``(B, X)``."""
        return self.middle + self.half * self._mode()

    def log_prob(self, actions: Tensor) -> Tensor:
        """Exact log π ``(B,)`` of actions ``(B, X)``, nats: one path for collection and update."""
        x = (actions.reshape(-1, self.value.event_dim) - self.middle) / self.half
        log_prob = self.value.log_prob(x)
        assert log_prob.shape == self.value.batch_shape, (log_prob.shape, self.value.batch_shape)
        return log_prob - self.half.log().sum()

    def entropy(self) -> Tensor | None:
        """Entropy ``(B,)`` in nats: exact where a closed form exists, else an estimate.

        None without samples: SB3 then reports −mean log π of the actions that it holds.
        """
        try:
            entropy = self.value.entropy()
        except IntractableError:
            if not self.entropy_samples:
                return None
            entropy = self.value.entropy_estimate(self.entropy_samples, self._entropy_generator())
        return entropy + self.half.log().sum()

    @property
    def distribution(self) -> NoReturn:
        """Refused: TRPO would take its analytic KL from it."""
        raise IntractableError(REFUSE_TRPO)

    @distribution.setter
    def distribution(self, value: Any) -> None:
        raise IntractableError(REFUSE_TRPO)

    def proba_distribution_net(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: the policy builds its density itself."""
        raise NotImplementedError("proba_distribution_net: the policy builds its density itself")

    def proba_distribution(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: a density is not made from a mean and a log std."""
        raise NotImplementedError("proba_distribution: use policy.action_density(obs)")

    def actions_from_params(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: a density is not made from a mean and a log std."""
        raise NotImplementedError("actions_from_params: use policy.action_density(obs)")

    def log_prob_from_params(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: a density is not made from a mean and a log std."""
        raise NotImplementedError("log_prob_from_params: use policy.action_density(obs)")
