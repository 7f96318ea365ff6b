"""Attention, blocks and pixel normalisation."""

import pytest
import torch
from torch import nn

from mmfound.nn import CLIP_MEAN, CLIP_STD, Block, NormalizePixels, QuickGelu, SelfAttention


def test_attention_equals_torch_multihead_attention():
    ours, theirs = SelfAttention(32, 4).double(), nn.MultiheadAttention(32, 4, batch_first=True).double()
    ours.in_proj.weight.data, ours.in_proj.bias.data = theirs.in_proj_weight.data, torch.randn(96).double()
    theirs.in_proj_bias.data = ours.in_proj.bias.data
    ours.out_proj.load_state_dict(theirs.out_proj.state_dict())
    x_BLD = torch.randn(2, 5, 32).double()
    keep_LL = torch.ones(5, 5).tril().bool()
    expected, _ = theirs(x_BLD, x_BLD, x_BLD, attn_mask=~keep_LL)
    torch.testing.assert_close(ours(x_BLD, causal=True), expected)
    torch.testing.assert_close(ours(x_BLD, keep_LL), expected)


def test_causal_block_does_not_look_ahead():
    block = Block(32, 4)
    x_BLD = torch.randn(2, 6, 32)
    changed = x_BLD.clone()
    changed[:, 4:] = torch.randn(2, 2, 32)
    assert torch.equal(block(x_BLD, causal=True)[:, :4], block(changed, causal=True)[:, :4])
    assert not torch.equal(block(x_BLD)[:, :4], block(changed)[:, :4])


def test_width_must_be_a_multiple_of_heads():
    with pytest.raises(ValueError, match="width 30 is not a multiple of heads 4"):
        SelfAttention(30, 4)


def test_quick_gelu_is_x_times_sigmoid():
    x = torch.tensor([-1.0, 0.0, 2.0])
    torch.testing.assert_close(QuickGelu()(x), torch.tensor([-0.1542, 0.0, 1.9357]), rtol=0, atol=1e-4)
    x = torch.linspace(-8, 8, 101, dtype=torch.float64).requires_grad_()
    expected = x * torch.sigmoid(1.702 * x)
    weight = torch.randn(101, dtype=torch.float64)
    found = QuickGelu()(x)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, weight)[0] for y in (found, expected)))


def test_pixels_are_normalised_in_float32_even_in_a_bfloat16_network():
    pixels = NormalizePixels().bfloat16()
    image = torch.rand(2, 3, 4, 4)
    mean, std = torch.tensor(CLIP_MEAN).view(3, 1, 1), torch.tensor(CLIP_STD).view(3, 1, 1)
    assert pixels(image).dtype == torch.float32
    torch.testing.assert_close(pixels(image), (image - mean) / std)


def test_pixels_need_a_positive_std_per_channel():
    with pytest.raises(ValueError, match="one value per channel"):
        NormalizePixels((0.5, 0.5, 0.5), (0.5, 0.0, 0.5))
