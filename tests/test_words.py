"""Reading words: padding says nothing, order does, and attention is a weighted mean of words."""

from __future__ import annotations

import pytest
import torch

from vaerl.words import WordAttention, WordEncoder, Words


def encoder() -> WordEncoder:
    torch.manual_seed(0)
    return WordEncoder(12, 6, 5)


def test_padding_changes_no_state() -> None:
    """A sentence reads the same however far it is filled up; both directions start at a word."""
    read = encoder()
    short = read(torch.tensor([[3, 7, 2]]))
    long = read(torch.tensor([[3, 7, 2, 0, 0, 0]]))
    torch.testing.assert_close(long.states[:, :3], short.states)
    assert long.mask.tolist() == [[True] * 3 + [False] * 3]


def test_every_state_knows_the_whole_sentence_and_a_vector_its_word_only() -> None:
    read = encoder()
    one, other = read(torch.tensor([[3, 7, 2], [3, 7, 9]])).states
    assert (one - other).abs().amax(-1).min() > 1e-4
    first, second = read(torch.tensor([[3, 7, 2], [9, 7, 3]])).vectors
    torch.testing.assert_close(first[1], second[1])
    torch.testing.assert_close(first[0], second[2])


def test_the_second_direction_reads_backwards() -> None:
    """With both directions of equal weights, reading a sentence backwards swaps them."""
    read = encoder()
    read.backward_.load_state_dict(read.onward.state_dict())
    there, back = read(torch.tensor([[3, 7, 2, 0], [2, 7, 3, 0]])).states[:, :3]
    torch.testing.assert_close(there[:, :5], back.flip(0)[:, 5:])


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([[1, 12]], "got 12, expected ids from 0 to 11"),
        ([[-1, 2]], "got -1"),
        ([[0, 3]], "padding"),
    ],
)
def test_bad_tokens_raise_one_line(tokens: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=f"^tokens: [^\n]*{message}"):
        encoder()(torch.tensor(tokens))


def test_attention_is_a_mean_over_the_words() -> None:
    """Weights sum to 1 over words, 0 on padding; the context is their mean, for any sample shape;
    an empty sentence gives nothing."""
    torch.manual_seed(0)
    attention = WordAttention(4, 3)
    states = torch.randn(2, 5, 4)
    words = Words(states, torch.tensor([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]]).bool())
    query = torch.randn(7, 2, 3)
    context, weights = attention(query, words)
    torch.testing.assert_close(weights[:, 0].sum(-1), torch.ones(7))
    assert weights[:, 0, 3:].abs().max() == 0.0 and weights[:, 1].abs().max() == 0.0
    by_hand = torch.stack([(weights[i, 0, :, None] * states[0]).sum(0) for i in range(7)])
    torch.testing.assert_close(context[:, 0], by_hand)
    assert context[:, 1].abs().max() == 0.0
    energy = attention.energy(
        torch.tanh(attention.from_word(states[0, 1]) + attention.from_query(query[2, 0]))
    )
    torch.testing.assert_close(attention.energies(query, words)[2, 0, 1], energy[0])
