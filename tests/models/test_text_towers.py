"""TextTransformer and Cbow: padding is invisible, too long or unknown is refused."""

import copy

import pytest
import torch

from mmfound.errors import ConfigError
from mmfound.models import Cbow, TextTransformer


def transformer() -> TextTransformer:
    return TextTransformer(vocab_size=50, context=24, width=64, depth=3, heads=2, embed_dim=16)


def texts(lengths: list[int], padded_to: int) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.randint(1, 50, (len(lengths), padded_to), generator=torch.Generator().manual_seed(1))
    return tokens, torch.arange(padded_to) < torch.tensor(lengths)[:, None]


@pytest.mark.parametrize("tower", [transformer(), Cbow(50, 64, 16)], ids=["transformer", "cbow"])
def test_trimmed_text_embeds_as_the_padded_one(tower: torch.nn.Module):
    tokens, mask = texts([3, 8, 5], padded_to=24)
    exact = copy.deepcopy(tower).double()
    full, trimmed = exact(tokens, mask), exact(tokens[:, :8], mask[:, :8])
    assert full.abs().max() > 1e-3
    torch.testing.assert_close(trimmed, full, rtol=0, atol=1e-12)


@pytest.mark.parametrize("tower", [transformer(), Cbow(50, 64, 16)], ids=["transformer", "cbow"])
def test_what_padding_contains_does_not_matter(tower: torch.nn.Module):
    tokens, mask = texts([3, 8, 5], padded_to=16)
    torch.testing.assert_close(tower(tokens, mask), tower(tokens.masked_fill(~mask, 0), mask), rtol=0, atol=1e-6)


def test_cbow_is_the_projected_mean_and_ignores_order():
    tower = Cbow(50, 64, 16)
    tokens, mask = torch.tensor([[4, 7, 9, 0]]), torch.tensor([[True, True, True, False]])
    mean = tower.token_embedding.weight[[4, 7, 9]].mean(dim=0)
    torch.testing.assert_close(tower(tokens, mask)[0], tower.text_projection.weight @ mean)
    torch.testing.assert_close(tower(tokens[:, [2, 0, 1, 3]], mask), tower(tokens, mask))


def test_transformer_is_read_off_at_the_end_token():
    tower = transformer()
    tokens, mask = texts([5], padded_to=8)
    changed = tokens.clone()
    changed[0, 4] = (tokens[0, 4] + 1) % 50
    assert not torch.allclose(tower(tokens, mask), tower(changed, mask))


def test_initial_weights_are_openai_s():
    tower = TextTransformer(vocab_size=5000, context=77, width=256, depth=12, heads=4, embed_dim=128)
    block = tower.blocks[5]
    residual = 256**-0.5 * 24**-0.5
    expected = {
        tower.token_embedding.weight: 0.02,
        tower.positional_embedding: 0.01,
        tower.text_projection: 256**-0.5,
        block.attn.in_proj.weight: 256**-0.5,
        block.attn.out_proj.weight: residual,
        block.mlp.c_fc.weight: 512**-0.5,
        block.mlp.c_proj.weight: residual,
    }
    for parameter, std in expected.items():
        assert parameter.std().item() == pytest.approx(std, rel=0.03)


def test_too_long_a_text_is_refused_with_both_numbers():
    with pytest.raises(ConfigError, match="25 tokens, more than the text transformer's context 24"):
        transformer()(*texts([25], padded_to=25))


@pytest.mark.parametrize("tower", [transformer(), Cbow(50, 64, 16)], ids=["transformer", "cbow"])
def test_a_token_beyond_the_table_is_refused_by_name(tower: torch.nn.Module):
    with pytest.raises(ConfigError, match="token id 50 is beyond the text tower's vocab_size 50"):
        tower(torch.tensor([[1, 50]]), torch.ones(1, 2, dtype=torch.bool))
