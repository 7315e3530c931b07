"""Best of N draws by Q (Fujimoto et al. 2019; Hansen-Estruch et al. 2023) over any density.

    vaerl.agents.IDQL("cvae", "Pendulum-v1").learn(demonstrations)

The density clones all actions of the data, whatever they are worth; critic and value are those of
IQL. To act, N actions are drawn from the clone and one is chosen by Q.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv
from torch import Tensor

from vaerl.agents.from_data import Info
from vaerl.agents.iql import IQL
from vaerl.agents.offline import Batch
from vaerl.policies.critic import BestOfPolicy


class IDQL(IQL):
    """Implicit Q-learning that acts by the best of several draws from a clone of the data.

    Args:
        draws: N, actions drawn at each decision.
        choice: "argmax" takes the best by min_i Q_i; "softmax" draws one by exp(Q / temperature).
        temperature: of that draw, in units of the return.
        others: as in `IQL`, without its weights; `policy_kwargs` are those of `BestOfPolicy`.

    Logged: as in `IQL`, without train/weight.

    >>> from vaerl.data import Demonstrations
    >>> rows = [torch.zeros(9, 3).numpy()], [torch.zeros(8, 1).numpy()]
    >>> agent = IDQL("gaussian", data=Demonstrations.from_arrays(*rows), draws=4).learn(5)
    >>> agent.policy.draws
    4
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": BestOfPolicy,
        "MultiInputPolicy": BestOfPolicy,
    }

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str | None = None,
        data: Any = None,
        draws: int = 32,
        choice: str = "argmax",
        temperature: float = 1.0,
        expectile: float = 0.9,
        learning_rate: float | Callable[[float], float] = 3e-4,
        batch_size: int = 256,
        gamma: float = 0.99,
        tau: float = 0.005,
        kl_warmup: float = 0.1,
        max_grad_norm: float = 10.0,
        policy_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        self.draws, self.choice, self.temperature = draws, choice, temperature
        super().__init__(
            policy,
            env,
            data,
            expectile=expectile,
            learning_rate=learning_rate,
            batch_size=batch_size,
            gamma=gamma,
            tau=tau,
            kl_warmup=kl_warmup,
            max_grad_norm=max_grad_norm,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=_init_setup_model,
        )

    def _policy_options(self) -> dict[str, Any]:
        return {"draws": self.draws, "choice": self.choice, "temperature": self.temperature}

    def _improve(self, batch: Batch, advantage: Tensor, progress: float) -> Info:
        return self._clone(batch, None, progress)
