"""HIVTreatment: two drugs against a virus, in doses that turn out a little different.

T, M are healthy lymphocytes and macrophages, T*, M* infected ones, V viruses and E the cells of the
immune response, a millilitre. With efficacies ε₁, ε₂ of the two drugs, a day being the unit,

    T'  = 10⁴ − .01 T − k₁ V T              k₁ = 8·10⁻⁷ (1 − ε₁)
    M'  = 31.98 − .01 M − k₂ V M            k₂ = 10⁻⁴ (1 − .34 ε₁)
    T*' = k₁ V T − (.7 + 10⁻⁵ E) T*         M*' = k₂ V M − (.7 + 10⁻⁵ E) M*
    V'  = 70 (1 − ε₂) I − (13 + k₁ T + k₂ M) V,                     I = T* + M*
    E'  = 1 + (.3 I / (I + 100) − .25 I / (I + 500) − .1) E

An action a ∈ [−1, 1]² lasts 20 days: ε = clip(.35 (a + 1) (1 + .15 ξ), 0, (.91, .39)), ξ ~ N(0, I);
beyond a = .11 the second drug gains nothing. The reward after them is

    r = (10³ E − .1 V − 2·10⁴ ε₁² − 2·10³ ε₂²) / 10⁶ − 1

Source: Rigter, Lacerda & Hawes 2023, marc-rigter/1R2R; equations of Ernst et al. 2006 after Adams
et al. 2004.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from vaerl.envs.base import Array, Outcome
from vaerl.envs.known_law import BatchEnv, Steps, namespace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DAYS = 20.0  # of an action
DOSE = 0.7  # efficacy of both drugs at a = 1
DOSE_NOISE = 0.15
MOST = (0.91, 0.39)  # efficacies
SICK = (163573.0, 5.0, 11945.0, 46.0, 63919.0, 24.0)  # the start, where a patient stays untreated
LOWEST, HIGHEST = -5.0, 8.0  # of log10 of every number
_CELLS, _VIRUSES, _RESPONSE = slice(0, 2), 4, 5


class HIVTreatmentEnv(BatchEnv):
    """Keep a virus down long enough for the immune response to grow.

    Observation: log10 of (T, M, T*, M*, V, E). Action: doses of two drugs, −1 for none. Starts in
    the sick steady state; 50 steps. The law of the next state has no closed density: doses are
    random, and what follows is a curved surface of two dimensions. `step_batch` draws from it.

    >>> env = HIVTreatmentEnv()
    >>> steps = env.step_batch(np.log10(SICK), [[-1.0, -1.0], [1.0, 1.0]], np.random.default_rng(0))
    >>> steps.next_states[:, 4].round(1).tolist(), steps.rewards.round(2).tolist()
    ([4.8, 0.3], [-0.98, -0.99])
    """

    scored = tuple(range(6))
    _legal_states = f"numbers from {LOWEST:g} to {HIGHEST:g}"

    def __init__(self, *, render_mode: str | None = None) -> None:
        super().__init__(
            Box(LOWEST, HIGHEST, (6,), np.float32), Box(-1.0, 1.0, (2,), np.float32), render_mode
        )

    def step_batch(self, states: Any, actions: Any, rng: np.random.Generator) -> Steps:
        """Draw one step for every pair of states (*batch, 6) and actions (*batch, 2).

        A state with many actions, or the reverse, is repeated. Time limits are not counted.
        """
        states, actions = self._check_pairs(states, actions)
        doses = draw_doses(actions, rng)
        after = advance(states, doses)
        rewards = rewards_of(after, doses)
        return Steps(after, rewards, np.zeros(rewards.shape, dtype=np.bool_))

    def reward(self, states: Any, actions: Any, next_states: Any) -> Any:
        """Return the reward (*batch,) at the doses that were meant; arrays or tensors.

        Those that turn out change it by less than .01; it ranges from −1 to some hundred.
        """
        meant = DOSE * (actions + 1.0) / 2.0
        first, second = (meant[..., i].clip(0.0, most) for i, most in enumerate(MOST))
        return rewards_of(next_states, namespace(meant).stack([first, second], -1))

    def terminated(self, states: Any, actions: Any, next_states: Any) -> Any:
        """Return False for every row."""
        return namespace(next_states).zeros_like(next_states[..., 0]) > 0.0

    def legal(self, states: Array) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = (states >= LOWEST) & (states <= HIGHEST)
        return np.asarray(inside.all(axis=-1))

    def start_states(self, count: int, rng: np.random.Generator) -> Array:
        """Return the sick steady state (count, 6)."""
        return np.tile(np.log10(SICK), (count, 1))

    def _advance(self, action: Array) -> Outcome:
        steps = self.step_batch(self._state, action, self.np_random)
        self._state = steps.next_states
        return Outcome(float(steps.rewards))

    def _place(self) -> tuple[float, float]:
        """Return viruses and immune response, log10."""
        return float(self._state[_VIRUSES]), float(self._state[_RESPONSE])

    def _draw_map(self, ax: Axes) -> None:
        from vaerl.envs import drawing

        drawing.prepare(ax, (-2.5, 6.5), (-0.5, 6.5))
        drawing.draw_start(ax, *np.log10(SICK)[[_VIRUSES, _RESPONSE]])
        ax.text(2.0, -0.3, "viruses →   immune response ↑", color=drawing.INK, ha="center")


def draw_doses(actions: Array, rng: np.random.Generator) -> Array:
    """Draw efficacies (*batch, 2) of actions in the box."""
    meant = DOSE * (actions + 1.0) / 2.0
    noise = 1.0 + DOSE_NOISE * rng.standard_normal(meant.shape)
    return np.clip(meant * noise, 0.0, MOST)


def rewards_of(after: Any, doses: Any) -> Any:
    """Return the rewards (*batch,) of log10 states (*batch, 6) and efficacies (*batch, 2)."""
    worth = 1e3 * 10.0 ** after[..., _RESPONSE] - 0.1 * 10.0 ** after[..., _VIRUSES]
    cost = 2e4 * doses[..., 0] ** 2 + 2e3 * doses[..., 1] ** 2
    return (worth - cost) / 1e6 - 1.0


def advance(states: Array, doses: Array, days: float = DAYS) -> Array:
    """Follow the equations from log10 states (*batch, 6) under efficacies (*batch, 2).

    Fourth order in the time step, by Richardson extrapolation of `_sweep` in log10. With steps of
    .1 and .2 days it stays within .01 of a solver of the equations to 8 digits.
    """
    batch = np.broadcast_shapes(states.shape[:-1], doses.shape[:-1])
    rows = np.broadcast_to(states, (*batch, 6)).reshape(-1, 6).T
    pairs = np.broadcast_to(doses, (*batch, 2)).reshape(-1, 2).T
    fine, coarse = (np.log10(_sweep(10.0**rows, pairs, days, step)) for step in (0.1, 0.2))
    after = np.clip((4.0 * fine - coarse) / 3.0, LOWEST, HIGHEST)
    return after.T.reshape(*batch, 6)


def _sweep(numbers: Array, doses: Array, days: float, step: float) -> Array:
    """Follow numbers (6, rows) under efficacies (2, rows), second order in the step.

    Every equation is linear in its own number: x' = gain − loss·x. Each in turn is solved exactly
    while the others stand still, there and back in each step, which keeps numbers above 0 and
    needs no smaller step when the virus is fast (Strang 1968).
    """
    cells, infected = numbers[_CELLS], numbers[2:4]
    viruses, response = numbers[_VIRUSES], numbers[_RESPONSE]
    rate = np.stack([8e-7 * (1.0 - doses[0]), 1e-4 * (1.0 - 0.34 * doses[0])])
    born = np.array([[1e4], [31.98]])
    shed = 70.0 * (1.0 - doses[1])

    def follow_viruses(time: float) -> Array:
        loss = 13.0 + (rate * cells).sum(axis=0)
        return _relax(viruses, shed * infected.sum(axis=0), loss, time)

    count, half = round(days / step), step / 2.0
    viruses = follow_viruses(half)
    for index in range(count):
        hit = rate * viruses
        cells = _relax(cells, born, 0.01 + hit, half)
        infected = _relax(infected, hit * cells, 0.7 + 1e-5 * response, half)
        total = infected.sum(axis=0)
        loss = 0.1 + 0.25 * total / (total + 500.0) - 0.3 * total / (total + 100.0)
        response = _relax(response, 1.0, loss, step)
        infected = _relax(infected, hit * cells, 0.7 + 1e-5 * response, half)
        cells = _relax(cells, born, 0.01 + hit, half)
        viruses = follow_viruses(half if index == count - 1 else step)
    return np.concatenate([cells, infected, viruses[None], response[None]])


def _relax(x: Array, gain: Array | float, loss: Array, time: float) -> Array:
    """Return the solution of x' = gain − loss·x after some time."""
    limit = gain / loss
    return limit + (x - limit) * np.exp(-time * loss)
