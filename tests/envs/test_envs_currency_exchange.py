"""CurrencyExchange against the published equations (Rigter et al. 2023)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vaerl.envs.currency_exchange import CurrencyExchangeEnv


@pytest.mark.parametrize("rate", [0.05, 1.0, 4.9])
def test_money_and_rate_follow_the_source(rate):
    """Rates from the published formula have the law's quantiles and atoms; money is certain."""
    env, rng = CurrencyExchangeEnv(), np.random.default_rng(0)
    drawn = [
        min(max(rate + 0.05 * (1.5 - rate) + 0.2 * rng.normal() * math.sqrt(1), 0.0), 5.0)
        for _ in range(4000)
    ]
    after, rewards, ends = env.step_batch(np.tile([4.0, 80.0, rate], (4000, 1)), [[0.25]], rng)
    for level in np.quantile(drawn, (0.1, 0.3, 0.5, 0.7, 0.9)):
        assert np.mean(after[:, 2] <= level) == pytest.approx(np.mean(drawn <= level), abs=0.045)
    for end in (0.0, 5.0):
        assert np.mean(after[:, 2] == end) == pytest.approx(np.mean(np.equal(drawn, end)), abs=0.04)
    assert (after[:, :2] == [5.0, 60.0]).all() and not ends.any()
    np.testing.assert_allclose(rewards, 20.0 * rate, rtol=1e-12)


def test_the_exchange_starts_as_published():
    """All of 100 to sell, at a rate from N(1, .05²) (Rigter et al. 2023), batches and resets."""
    env, count = CurrencyExchangeEnv(), 2000
    drawn = env.start_states(count, np.random.default_rng(0))
    env.reset(seed=0)
    for starts in (drawn, np.array([env.reset()[0] for _ in range(count)])):
        assert (starts[:, :2] == [0.0, 100.0]).all()
        error = 0.05 / math.sqrt(count)
        assert starts[:, 2].mean() == pytest.approx(1.0, abs=4 * error)
        assert starts[:, 2].std() == pytest.approx(0.05, abs=4 * error / math.sqrt(2))


def test_the_exchange_ends_when_time_or_money_runs_out():
    """At step 20, or with less than .1; a negative share sells nothing."""
    env = CurrencyExchangeEnv()
    env.reset(seed=0)
    total, waits = 0.0, 0
    over = False
    while not over:
        _, reward, over, _, _ = env.step([-0.3])
        total, waits = total + reward, waits + 1
    assert (total, waits) == (0.0, 20)
    env.reset(options={"state": [0.0, 100.0, 1.25]})
    assert env.step([1.0])[1:3] == (125.0, True)
    env.reset(options={"state": [0.0, 100.0, 1.25]})
    _, reward, over, *_ = env.step([0.9985])
    assert not over and reward == pytest.approx(0.9985 * 125.0)
