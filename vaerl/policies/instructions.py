"""Instructions in a policy's observation, read by the encoder that also reads captions."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from vaerl.densities.options import check_positive
from vaerl.names import did_you_mean
from vaerl.words import PADDING, WordAttention, WordEncoder, Words


class InstructionExtractor(BaseFeaturesExtractor):
    """Features of a Dict observation that holds an instruction; any density can follow it.

    A bidirectional encoder reads the words; the attention of `vaerl.words` gives each word a score
    e_k, given the rest of the observation v. Without `things` the features are [v, s], s = Σ_k
    softmax(e)_k h_k as in the captions.

    With `things`, a list of vectors r_g in the observation, each with its own word l_g if there are
    `labels`, the words point at them:

        s = W Σ_k sigmoid(e_k) w_k,   β = softmax_g s·(U r_g + W l_g),   features [v, Σ_g β_g r_g]

    w_k is the vector of word k alone, and labels are the same words; a label of 0 marks an empty
    place, where β is 0. The query s is a sum over the words. The policy sees things only through
    the words, and words only through the things that they name, so it cannot memorise combinations
    of words and understands new ones from their parts.

    Args:
        observation_space: a Dict with `words` as a MultiDiscrete of equal sizes (token ids, 0
            pads); every other entry is flattened.
        words: key of the instruction.
        things: key of a Box that lists things one after the other, None for none.
        labels: key of another MultiDiscrete with a word for each of the things, None for none.
        count: how many things there are.
        embedding, hidden, alignment: sizes of word vectors, of states (each way), of the
            attention's layer.

    Raises:
        ValueError: another space, an unknown key, things that do not divide into `count`, a size
            below 1.

    >>> import vaerl.envs, gymnasium
    >>> space = gymnasium.make("vaerl/ColouredGoals-v0").observation_space
    >>> InstructionExtractor(space, things="goals", labels="colours", count=8).features_dim
    4
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        words: str = "instruction",
        things: str | None = None,
        labels: str | None = None,
        count: int = 1,
        embedding: int = 16,
        hidden: int = 16,
        alignment: int = 32,
    ) -> None:
        parts = _check_space(observation_space, words, things, labels, count)
        check_positive("embedding", embedding)
        check_positive("hidden", hidden)
        check_positive("alignment", alignment)
        sizes = {key: get_flattened_obs_dim(space) for key, space in parts.items()}
        others = sorted(key for key in parts if key not in (words, things, labels))
        seen = sum(sizes[key] for key in others)
        told = 2 * hidden if things is None else sizes[things] // count
        super().__init__(observation_space, seen + told)
        self.words, self.things, self.labels, self.others = words, things, labels, others
        self.count = count
        self.vocabulary = int(parts[words].nvec[0])  # type: ignore[attr-defined]
        self.encoder = WordEncoder(self.vocabulary, embedding, hidden)
        self.listen = WordAttention(2 * hidden, max(1, seen), alignment)
        if things is not None:
            self.say = nn.Linear(embedding, alignment, bias=False)
            self.show = nn.Linear(told, alignment)

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Features ``(B, features_dim)`` of preprocessed observations (SB3's one-hot tokens)."""
        seen, words, energies = self._listen(observations)
        if self.things is None:
            weights = torch.softmax(energies, dim=-1) * words.mask
            told = (weights.unsqueeze(-2) @ words.states).squeeze(-2)
        else:
            told = self._point(observations, words, energies)[0]
        return torch.cat([seen, told], dim=-1)

    def point(self, observations: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """What the words name ``(B, F)``, the weights β of all things ``(B, count)``, and how far
        each word is heard ``(B, W)``."""
        _, words, energies = self._listen(observations)
        return self._point(observations, words, energies)

    def _point(
        self, observations: dict[str, Tensor], words: Words, energies: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        assert self.things is not None, "there are no things to point at"
        assert words.vectors is not None, "an encoder gives the words themselves"
        rows = observations[self.things].reshape(len(energies), self.count, -1)
        heard = torch.sigmoid(energies) * words.mask
        said = self.say((heard.unsqueeze(-1) * words.vectors).sum(-2))
        shown, there = self.show(rows), None
        if self.labels is not None:
            labels = self._ids(observations[self.labels])
            shown, there = shown + self.say(self.encoder.embed(labels)), labels != PADDING
        scores = (shown @ said.unsqueeze(-1)).squeeze(-1)
        if there is not None:
            scores = scores.masked_fill(~there, torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, dim=-1)
        return (weights.unsqueeze(-2) @ rows).squeeze(-2), weights, heard

    def _ids(self, one_hot: Tensor) -> Tensor:
        """Token ids ``(B, W)`` of SB3's one-hot encoding."""
        return one_hot.reshape(len(one_hot), -1, self.vocabulary).argmax(-1)

    def _listen(self, observations: dict[str, Tensor]) -> tuple[Tensor, Words, Tensor]:
        """The rest of the observation ``(B, D)``, the words, and e ``(B, W)``."""
        tokens = observations[self.words]
        seen = [observations[key].flatten(1) for key in self.others]
        rest = torch.cat(seen, dim=-1) if seen else tokens.new_zeros(len(tokens), 1)
        # A batch holds few different instructions: each is read once.
        different, place = torch.unique(self._ids(tokens), dim=0, return_inverse=True)
        words = Words(*(part[place] for part in self.encoder(different)))
        return rest[:, : 0 if not seen else None], words, self.listen.energies(rest, words)


def _check_space(
    space: spaces.Space, words: str, things: str | None, labels: str | None, count: int
) -> dict[str, spaces.Space]:
    """The entries of the Dict, if the keys are there, words are token ids and things count up."""
    if not isinstance(space, spaces.Dict):
        raise ValueError(f"observation_space: got {space}, expected a Dict with an instruction")
    for argument, key in (("words", words), ("things", things), ("labels", labels)):
        if key is not None and key not in space.spaces:
            raise ValueError(f"{argument}: got {key!r}, {did_you_mean(key, space.spaces)}")
    sizes = set()
    for argument, key in (("words", words), ("labels", labels)):
        tokens = None if key is None else space.spaces[key]
        if tokens is not None and not isinstance(tokens, spaces.MultiDiscrete):
            raise ValueError(f"{argument}: got {tokens}, expected a MultiDiscrete of token ids")
        sizes |= set() if tokens is None else set(tokens.nvec.ravel().tolist())
    if len(sizes) != 1:
        raise ValueError(f"words: got vocabularies of {sorted(sizes)} words, expected one")
    check_positive("count", count)
    if things is not None and not isinstance(space.spaces[things], spaces.Box):
        raise ValueError(
            f"things: got {things!r}, a {space.spaces[things]}, expected a Box of numbers"
        )
    if labels is not None and things is None:
        raise ValueError(f"labels: got {labels!r} without things, expected both")
    if labels == words:
        raise ValueError(f"labels: got {labels!r}, the instruction itself, expected another key")
    for key, each in ((things, "things"), (labels, "labels")):
        size = 0 if key is None else int(np.prod(space.spaces[key].shape or ()))
        if size % count or (each == "labels" and size not in (0, count)):
            raise ValueError(f"count: got {count}, but {each} has {size} numbers")
    return dict(space.spaces)
