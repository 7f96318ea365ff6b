"""Our U-Net against diffusers' in both styles, weights copied, layers that are zero at the start drawn anew."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from mmfound.diffusion.conditioning import Condition
from mmfound.interop.diffusers import from_diffusers
from mmfound.models import UNet
from mmfound.weights import load
from tests.parity import unets


def inputs() -> tuple[Tensor, Tensor, Condition]:
    generator = torch.Generator().manual_seed(1)
    x, tokens = torch.randn(2, 3, 16, 24, generator=generator), torch.randn(2, 7, 32, generator=generator)
    mask = torch.arange(7) < torch.tensor([[7], [3]])
    return x, torch.tensor([3.0, 871.0]), Condition(tokens, mask, torch.randn(2, 128, generator=generator))


def compare(theirs: UNet2DConditionModel, ours: UNet, class_labels: bool) -> None:
    """Outputs to 1e-5 and gradients to 1e-4, relative, with a mask and without."""
    x, time, condition = inputs()
    for mask in (condition.mask, None):
        for model in (theirs, ours):
            model.zero_grad()
        vector = condition.vector if class_labels else None
        expected = theirs(
            x, time, condition.tokens, class_labels=vector, encoder_attention_mask=mask, return_dict=False
        )[0]
        found = ours(x, time, Condition(condition.tokens, mask, vector))
        assert expected.std() > 0.01
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
        expected.square().mean().backward()
        found.square().mean().backward()
        gradients = from_diffusers({name: value.grad for name, value in theirs.named_parameters()})
        for name, value in ours.named_parameters():
            assert (value.grad - gradients[name]).norm() < 1e-4 * gradients[name].norm(), name


@pytest.mark.parametrize("style", ["adm", "ldm"])
def test_outputs_and_gradients_are_those_of_diffusers(style: str):
    theirs = unets.drawn((unets.their_adm if style == "adm" else unets.their_ldm)(norm_num_groups=8))
    ours = unets.our_adm() if style == "adm" else unets.our_ldm()
    assert load(ours, from_diffusers(theirs.state_dict())) is None
    compare(theirs, ours, class_labels=style == "adm")
