"""GLIDE's text transformer: against torch's own layers, paddings, what is refused."""

import pytest
import torch
from torch import Tensor, nn

from mmfound.errors import ConfigError
from mmfound.models import GlideText


def text() -> GlideText:
    torch.manual_seed(0)
    made = GlideText(vocab_size=40, context=9, width=16, depth=3, heads=2, embed_dim=20)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.2)
    return made.double()


def texts(lengths: list[int], padded_to: int) -> tuple[Tensor, Tensor]:
    return torch.randint(40, (len(lengths), padded_to)), torch.arange(padded_to) < torch.tensor(lengths)[:, None]


def torch_layers(ours: GlideText) -> nn.TransformerEncoder:
    """An independent transformer with the same weights."""
    layer = nn.TransformerEncoderLayer(16, 2, 64, 0.0, "gelu", batch_first=True, norm_first=True, dtype=torch.float64)
    theirs = nn.TransformerEncoder(layer, 3, nn.LayerNorm(16, dtype=torch.float64), enable_nested_tensor=False)
    names = [
        ("self_attn.in_proj_", "attn.in_proj."),
        ("self_attn.out_proj.", "attn.out_proj."),
        ("linear1.", "mlp.c_fc."),
        ("linear2.", "mlp.c_proj."),
        ("norm1.", "ln_1."),
        ("norm2.", "ln_2."),
        ("layers.", "blocks."),
    ]
    state = {}
    for name in theirs.state_dict():
        mine = name if name.startswith("layers.") else name.replace("norm.", "ln_final.")
        for their_part, our_part in names:
            mine = mine.replace(their_part, our_part)
        state[name] = ours.state_dict()[mine]
    theirs.load_state_dict(state)
    return theirs


def test_equals_torch_s_encoder_over_tokens_and_padding_vectors():
    ours = text()
    tokens, mask = texts([4, 9, 0], padded_to=9)
    embedded = ours.token_embedding.weight[tokens] + ours.positional_embedding
    for row, length in enumerate([4, 9, 0]):
        embedded[row, length:] = ours.padding_embedding[length:]
    hidden, vector = ours(tokens, mask)
    expected = torch_layers(ours)(embedded)
    torch.testing.assert_close(hidden, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(vector, ours.vector_proj(expected[:, 8]), rtol=1e-10, atol=1e-10)


def test_shorter_batches_are_filled_up_to_the_context():
    ours = text()
    tokens, mask = texts([2, 5], padded_to=9)
    full, cut = ours(tokens, mask), ours(tokens[:, :5], mask[:, :5])
    for a, b in zip(full, cut, strict=True):
        torch.testing.assert_close(a, b)
    assert cut[0].shape == (2, 9, 16)


def test_ids_under_padding_do_not_count_and_the_empty_text_is_one():
    ours = text()
    tokens, mask = texts([0, 0, 3], padded_to=4)
    hidden, vector = ours(tokens, mask)
    assert torch.equal(vector[0], vector[1])
    torch.testing.assert_close(ours(tokens.masked_fill(~mask, 0), mask)[0], hidden)
    none = ours(tokens[:1, :0], mask[:1, :0])
    torch.testing.assert_close(none[0], hidden[:1])


def test_later_tokens_reach_earlier_positions():
    ours = text()
    tokens, mask = texts([5], padded_to=5)
    changed = tokens.clone()
    changed[0, 4] = (tokens[0, 4] + 1) % 40
    assert not torch.allclose(ours(tokens, mask)[0][:, 0], ours(changed, mask)[0][:, 0])


def test_longer_texts_are_refused():
    with pytest.raises(ConfigError, match="10 tokens, more than .* context 9"):
        text()(*texts([10], padded_to=10))


def test_bfloat16_weights_stay_bfloat16():
    hidden, vector = text().bfloat16()(*texts([2, 4], padded_to=4))
    assert hidden.dtype == vector.dtype == torch.bfloat16
