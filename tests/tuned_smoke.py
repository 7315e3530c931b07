"""Every setting that ships learns for a moment in its own environments: minutes of CPU time.

    python -m tests.tuned_smoke [ENV…]

Beside `tests/agents/test_tuned.py`, which builds each agent in a tiny environment.
"""

from __future__ import annotations

import sys
import time

import gymnasium
import numpy as np

from vaerl.agents import make_agent
from vaerl.agents.tuned import tuned_entries
from vaerl.disk.errors import one_line

SAC = {"learning_starts": 50, "buffer_size": 1000}
UPDATES = 30


def main(wanted: list[str]) -> int:
    """Print a line for each environment, recipe and density; the number of failures."""
    failed = 0
    places = {
        (env, entry.recipe, density): entry
        for entry in reversed(tuned_entries())  # the first that fits is the one that is taken
        for env in entry.envs
        for density in entry.densities
        if not wanted or env in wanted
    }
    for (env, recipe, density), entry in places.items():
        start, trouble = time.process_time(), ""
        short = SAC if entry.agent == "sac" else {}
        try:
            made = gymnasium.make(env)
            agent = make_agent(entry.agent, density, made, **{**entry.options, **short})
            agent.learn(SAC["learning_starts"] + UPDATES if short else 1)  # PPO: one roll-out
            action, _ = agent.predict(made.reset(seed=0)[0], deterministic=True)
            if not agent._n_updates or not np.isfinite(action).all():
                trouble = f"{agent._n_updates} updates, action {action}"
        except (ValueError, RuntimeError) as error:
            trouble = one_line(error)
        failed += bool(trouble)
        seconds = time.process_time() - start
        print(f"{env} {recipe} {density}: {trouble or 'learns'} ({seconds:.1f} s)", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
