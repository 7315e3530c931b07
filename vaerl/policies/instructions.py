"""Instructions as part of what a policy sees: words → context, by the attention of the captions."""

from __future__ import annotations

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from vaerl.densities.options import check_positive
from vaerl.names import did_you_mean
from vaerl.words import WordAttention, WordEncoder, Words


class InstructionExtractor(BaseFeaturesExtractor):
    """Features of a Dict observation that holds an instruction; any density can follow it.

    A bidirectional encoder reads the words h_k. Each of H glimpses attends to them,
    s = [Σ_k α_k h_k]_{1..H}, asked by itself and by what else is seen, v; the features are [v, s].
    Where the observation lists things, the same attention runs over these, asked by s: what the
    words name is u = Σ_g β_g thing_g, and the features are [v, u]. The policy then sees things
    through the words only, and words through the things they name, so that it has no way to learn
    a combination of words by heart.

    Args:
        observation_space: a Dict with `words` as a MultiDiscrete of equal sizes (token ids, 0
            pads); every other entry is flattened.
        words: key of the instruction.
        things: key of a vector that lists things one after the other, None for none.
        count: how many things it lists.
        glimpses: H.
        embedding, hidden, alignment: sizes of word vectors, of states (each way), of the
            attention's layer.

    Raises:
        ValueError: another space, an unknown key, things that do not divide into `count`.

    >>> import vaerl.envs, gymnasium
    >>> space = gymnasium.make("vaerl/ColouredGoals-v0").observation_space
    >>> InstructionExtractor(space, things="goals", count=8, hidden=8).features_dim
    8
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        words: str = "instruction",
        things: str | None = None,
        count: int = 1,
        glimpses: int = 2,
        embedding: int = 16,
        hidden: int = 16,
        alignment: int = 32,
    ) -> None:
        parts = _check_space(observation_space, words, things)
        sizes = {key: get_flattened_obs_dim(space) for key, space in parts.items()}
        check_positive("count", count)
        check_positive("glimpses", glimpses)
        seen = sum(size for key, size in sizes.items() if key not in (words, things))
        size = sizes[things] if things is not None else 0
        if size % count:
            raise ValueError(
                f"count: got {count}, expected a divisor of {size}, the size of things"
            )
        said = embedding * glimpses
        super().__init__(observation_space, seen + (said if things is None else size // count))
        self.words, self.things, self.count = words, things, count
        self.others = sorted(key for key in parts if key not in (words, things))
        self.vocabulary = int(parts[words].nvec[0])
        self.encoder = WordEncoder(self.vocabulary, embedding, hidden)
        self.ask = nn.Linear(seen, alignment)
        self.glimpse = nn.Parameter(torch.randn(glimpses, 1, alignment))
        self.listen = WordAttention(2 * hidden, alignment, alignment)
        self.point = (
            WordAttention(size // count, embedding, alignment) if things is not None else None
        )

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Features ``(B, features_dim)`` of preprocessed observations (SB3's one-hot tokens)."""
        seen = torch.cat([observations[key].flatten(1) for key in self.others], dim=-1)
        if self.things is None:
            words, energies = self.read(observations, seen)
            assert words.vectors is not None, "an encoder gives the words themselves"
            weights = torch.softmax(energies, dim=-1).transpose(0, 1)
            return torch.cat([seen, (weights @ words.vectors).flatten(1)], dim=-1)
        return torch.cat([seen, self.look(observations)[0]], dim=-1)

    def read(self, observations: dict[str, Tensor], seen: Tensor) -> tuple[Words, Tensor]:
        """The words, and how much each glimpse asks for them, e ``(H, B, W)``."""
        tokens = observations[self.words]
        words = self.encoder(tokens.reshape(len(tokens), -1, self.vocabulary).argmax(-1))
        return words, self.listen.energies(self.glimpse + self.ask(seen), words)

    def look(self, observations: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The thing that the words name ``(B, F)``, the weights of all ``(B, count)``, and how far
        each word is heard ``(B, W)``."""
        assert self.things is not None and self.point is not None, self.things
        seen = torch.cat([observations[key].flatten(1) for key in self.others], dim=-1)
        words, energies = self.read(observations, seen)
        assert words.vectors is not None, "an encoder gives the words themselves"
        rows = observations[self.things].reshape(len(words.mask), self.count, -1)
        there = torch.ones(rows.shape[:-1], dtype=torch.bool, device=rows.device)
        each = self.point.energies(words.vectors.transpose(0, 1), Words(rows, there))
        heard = torch.sigmoid(energies.mean(0))
        weights = torch.softmax((heard.T.unsqueeze(-1) * each).sum(0), dim=-1)
        return (weights.unsqueeze(-2) @ rows).squeeze(-2), weights, heard


def _check_space(
    space: spaces.Space, words: str, things: str | None
) -> dict[str, spaces.MultiDiscrete | spaces.Space]:
    """The entries of the Dict, if the keys are there and the words are token ids."""
    if not isinstance(space, spaces.Dict):
        raise ValueError(f"observation_space: got {space}, expected a Dict with an instruction")
    for argument, key in (("words", words), ("things", things)):
        if key is not None and key not in space.spaces:
            raise ValueError(f"{argument}: got {key!r}, {did_you_mean(key, space.spaces)}")
    tokens = space.spaces[words]
    if not isinstance(tokens, spaces.MultiDiscrete) or len(set(tokens.nvec.ravel())) != 1:
        raise ValueError(
            f"words: got {tokens}, expected a MultiDiscrete of token ids of one vocabulary"
        )
    return dict(space.spaces)
