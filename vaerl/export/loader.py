"""Acts by the policy in this folder: needs numpy and onnxruntime, and no torch.

from policy import load
policy = load()
action, state = policy.predict(observation)                # draws an action
action, state = policy.predict(observation, state)         # the next one, in the same episode
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


class Policy:
    """`predict` as in Stable-Baselines3; the noise is drawn here, from `seed`."""

    def __init__(self, folder: Path | str, seed: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.sessions = [
            onnxruntime.InferenceSession(Path(folder, name), options, ["CPUExecutionProvider"])
            for name in ("policy.onnx", "deterministic.onnx")
        ]
        about = self.sessions[0].get_modelmeta().custom_metadata_map["vaerl"]
        self.about = json.loads(about)
        self.random = np.random.default_rng(seed)

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """Actions for one observation or a batch, and the state for the next call."""
        about, history = self.about, self.about["history"]
        given = observation if isinstance(observation, dict) else {"observation": observation}
        if given.keys() != about["inputs"].keys():
            raise ValueError(f"observation: got {list(given)}, expected {list(about['inputs'])}")
        seen = {k: np.asarray(given[k], part["dtype"]) for k, part in about["inputs"].items()}
        for k, x in seen.items():
            shape = tuple(about["inputs"][k]["shape"])
            if x.shape not in (shape, (*x.shape[:1], *shape)):
                raise ValueError(f"{k}: got shape {x.shape}, expected {shape} or (rows, *{shape})")
        key, part = next(iter(about["inputs"].items()))
        single = seen[key].ndim == len(part["shape"])
        seen = {k: x[None] for k, x in seen.items()} if single else seen
        rows = len(seen[key])
        if not (history > 1 or about["chunk"] > 1 or about["held"]):  # nothing to keep
            if about["noise"] and not deterministic:
                seen["noise"] = self.noise(rows)
            action = self.sessions[deterministic].run(None, seen)[0][:, 0]
            action = action.astype(about["action"]["dtype"], copy=False)
            return (action[0] if single else action), state
        start = np.full(rows, state is None) | (False if episode_start is None else episode_start)
        past = {k: np.repeat(x[:, None], history, 1) for k, x in seen.items()}
        if state is None:
            actions = np.zeros((rows, about["chunk"], *about["action"]["shape"]), np.float32)
            state = (past, actions, np.zeros(rows, int), self.noise(rows), self.ages(rows))
        old, actions, done, noise, age = state
        for k, x in past.items():
            x[~start, :-1] = old[k][~start, 1:]
        due, limit = start | (done >= about["execute"]), about["limit"]
        over = start | (due & (age >= limit) if limit else False)
        if due.any() and not deterministic:
            fresh, kept = self.noise(rows), np.arange(noise.shape[1]) < about["held"]
            noise = np.where(due[:, None] & (over[:, None] | ~kept), fresh, noise)
            age = np.where(over, self.ages(rows), age)
        if due.any():
            feed = {k: (x if history > 1 else x[:, 0])[due] for k, x in past.items()}
            if about["noise"] and not deterministic:
                feed["noise"] = noise[due]
            actions, done = actions.copy(), np.where(due, 0, done)
            actions[due] = self.sessions[deterministic].run(None, feed)[0]
        action = actions[np.arange(rows), done].astype(about["action"]["dtype"])
        state = (past, actions, done + 1, noise, age + 1)
        return (action[0] if single else action), state

    def noise(self, rows: int) -> Any:
        """Fresh noise, one row a decision."""
        parts = [np.zeros((rows, 0), np.float32)]
        for law, size in self.about["noise"]:
            parts.append(getattr(self.random, law)((rows, size), np.float32))
        return np.concatenate(parts, 1)

    def ages(self, rows: int) -> Any:
        """Ages at which held noise begins: lengths follow a zeta law if it is so held."""
        lengths, limit = self.about["lengths"], self.about["limit"]
        return (
            limit - self.random.choice(len(lengths), rows, p=lengths) - 1
            if lengths
            else 0 * np.arange(rows)
        )


def load(folder: Path | str = Path(__file__).parent, seed: int | None = None) -> Policy:
    """The policy in a folder; the same seed draws the same noise."""
    return Policy(folder, seed)
