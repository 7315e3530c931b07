"""Words as a context: a bidirectional encoder of token ids and soft attention over its states.

It reads both captions of images and instructions of policies. A sentence is a row of token ids; id
0 pads it at the end and gets no attention.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

PADDING = 0
"""The token id that pads sentences."""


class Words(NamedTuple):
    """Encoded sentences: a state per word, the mask of real words, and the word vectors."""

    #: (*batch, W, S), each depends on the whole sentence
    states: Tensor
    #: (*batch, W), False at the padding
    mask: Tensor
    #: (*batch, W, E), each depends on its own word only
    vectors: Tensor | None = None

    def mean(self) -> Tensor:
        """Mean state over the words, ``(*batch, S)``; zeros for an empty sentence."""
        weight = self.mask.to(self.states.dtype).unsqueeze(-1)
        return (self.states * weight).sum(-2) / weight.sum(-2).clamp_min(1.0)


class WordEncoder(nn.Module):
    """h_k = [LSTM forward, LSTM backward](embeddings)_k for every word (Schuster & Paliwal 1997).

    The backward LSTM starts at the last word of a sentence, so states do not depend on the padding.

    Args:
        vocabulary: number of token ids, including the padding.
        embedding: size of a word's vector.
        hidden: size of the state in each direction; S = 2 · hidden.

    >>> words = WordEncoder(10, 8, 16)(torch.tensor([[3, 1, 4, 0, 0]]))
    >>> words.states.shape, words.mask.sum().item()
    (torch.Size([1, 5, 32]), 3)
    """

    def __init__(self, vocabulary: int, embedding: int = 32, hidden: int = 32) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.state_dim = 2 * hidden
        self.embed = nn.Embedding(vocabulary, embedding, padding_idx=PADDING)
        self.onward = nn.LSTM(embedding, hidden, batch_first=True)
        self.backward_ = nn.LSTM(embedding, hidden, batch_first=True)

    def forward(self, tokens: Tensor) -> Words:
        """Encode token ids ``(*batch, W)``, integers in any dtype.

        Raises ValueError for ids outside the vocabulary and for words after padding.
        """
        batch, length = tokens.shape[:-1], tokens.shape[-1]
        ids = tokens.reshape(-1, length).long()
        low, high = (int(end) for end in torch.aminmax(ids))
        if low < 0 or high >= self.vocabulary:
            raise ValueError(
                f"tokens: got {low if low < 0 else high}, "
                f"expected ids from 0 to {self.vocabulary - 1}"
            )
        mask = ids != PADDING
        if bool((mask[:, 1:] & ~mask[:, :-1]).any()):
            raise ValueError("tokens: got a word after the padding 0, expected padding at the end")
        count = mask.sum(-1, keepdim=True)
        place = torch.arange(length, device=ids.device).expand_as(ids)
        reverse = torch.where(place < count, count - 1 - place, place).unsqueeze(-1)
        vectors = self.embed(ids)
        onward = self.onward(vectors)[0]
        back = self.backward_(vectors.gather(1, reverse.expand_as(vectors)))[0]
        states = torch.cat([onward, back.gather(1, reverse.expand_as(back))], dim=-1)
        return Words(
            states.reshape(*batch, length, -1),
            mask.reshape(*batch, length),
            vectors.reshape(*batch, length, -1),
        )


class WordAttention(nn.Module):
    """s = Σ_k α_k h_k with α = softmax_k vᵀ tanh(U h_k + W d + b) (Bahdanau, Cho & Bengio 2015).

    Args:
        word_dim: S, size of a word's state.
        query_dim: D, size of a query d.
        hidden: size of the alignment layer.

    >>> words = Words(torch.randn(2, 4, 6), torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]]).bool())
    >>> context, weights = WordAttention(6, 3)(torch.randn(5, 2, 3), words)
    >>> context.shape, weights[0, 1].tolist()
    (torch.Size([5, 2, 6]), [1.0, 0.0, 0.0, 0.0])
    """

    def __init__(self, word_dim: int, query_dim: int, hidden: int = 64) -> None:
        super().__init__()
        self.from_word = nn.Linear(word_dim, hidden)
        self.from_query = nn.Linear(query_dim, hidden, bias=False)
        self.energy = nn.Linear(hidden, 1, bias=False)

    def keys(self, words: Words) -> Tensor:
        """U h_k + b ``(*batch, W, hidden)``, computed once for any number of queries."""
        return self.from_word(words.states)

    def forward(
        self, query: Tensor, words: Words, keys: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Context ``sample_shape + batch + (S,)`` and weights ``… + (W,)`` of queries ``… + (D,)``.

        Both are zero for an empty sentence.
        """
        energies = self.energies(query, words, keys)
        weights = torch.softmax(energies, dim=-1) * words.mask
        return (weights.unsqueeze(-2) @ words.states).squeeze(-2), weights

    def energies(self, query: Tensor, words: Words, keys: Tensor | None = None) -> Tensor:
        """e_k = vᵀ tanh(U h_k + W d + b) ``… + (W,)``, the most negative float at the padding."""
        keys = self.keys(words) if keys is None else keys
        energy = self.energy(torch.tanh(keys + self.from_query(query).unsqueeze(-2))).squeeze(-1)
        return energy.masked_fill(~words.mask, torch.finfo(energy.dtype).min)
