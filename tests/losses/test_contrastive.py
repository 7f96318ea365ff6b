"""clip_loss against the textbook formula, in float64, for every way of computing it."""

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from mmfound.distributed import rank, world_size
from mmfound.losses.contrastive import clip_loss
from tests.ranks import run_on_ranks

SCALE = 14.0
GROUPS = torch.tensor([5, -3, 5, 9, 9, 5, 0, 1])


def random_pairs(G: int = 8, D: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image_GD, text_GD = torch.randn(2, G, D, generator=generator, dtype=torch.float64)
    return F.normalize(image_GD, dim=1), F.normalize(text_GD, dim=1)


def textbook_loss(image_GD: Tensor, text_GD: Tensor, scale: Tensor, group_G: Tensor | None = None) -> Tensor:
    group_G = torch.arange(len(image_GD)) if group_G is None else group_G
    target_GG = (group_G[:, None] == group_G[None, :]).double()
    target_GG = target_GG / target_GG.sum(dim=1, keepdim=True)
    logits_GG = scale * image_GD @ text_GD.T
    return (F.cross_entropy(logits_GG, target_GG) + F.cross_entropy(logits_GG.T, target_GG)) / 2


def loss_and_gradients(group_G: Tensor | None, tile: int | None, loss_of=clip_loss) -> list[Tensor]:
    """Loss and gradients of the weights, averaged over ranks as DDP does."""
    image_GD, text_GD = random_pairs()
    image_weight, text_weight = torch.eye(16, dtype=torch.float64).repeat(2, 1, 1)
    scale = torch.full((1,), SCALE, dtype=torch.float64, requires_grad=True)
    leaves = [image_weight.clone().requires_grad_(), text_weight.clone().requires_grad_(), scale]
    mine = slice(rank() * 8 // world_size(), (rank() + 1) * 8 // world_size())
    image_BD, text_BD = image_GD[mine] @ leaves[0], text_GD[mine] @ leaves[1]
    if loss_of is clip_loss:
        loss = clip_loss(image_BD, text_BD, scale, group_B=None if group_G is None else group_G[mine], tile=tile)
    else:
        loss = loss_of(image_BD, text_BD, scale, group_G)
    loss.backward()
    values = [loss.detach(), *(leaf.grad for leaf in leaves)]
    for value in values if world_size() > 1 else []:
        dist.all_reduce(value)
        value /= world_size()
    return values


@pytest.mark.parametrize("group_G", [None, GROUPS], ids=["pairs", "groups"])
@pytest.mark.parametrize("tile", [None, 1, 3, 8])
def test_clip_loss_equals_the_textbook_for_any_tile(group_G: Tensor | None, tile: int | None):
    expected = loss_and_gradients(group_G, None, textbook_loss)
    torch.testing.assert_close(loss_and_gradients(group_G, tile), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("group_G", [None, GROUPS], ids=["pairs", "groups"])
def test_clip_loss_on_two_ranks_equals_one_process_on_the_whole_batch(group_G: Tensor | None):
    expected = loss_and_gradients(group_G, None, textbook_loss)
    for values in run_on_ranks(2, loss_and_gradients, group_G, 3):
        values = [torch.as_tensor(value) for value in values]
        torch.testing.assert_close(values, expected, rtol=1e-10, atol=1e-12)


def test_clip_loss_is_log_batch_size_when_nothing_is_learned():
    same_BD = F.normalize(torch.ones(8, 4), dim=1)
    torch.testing.assert_close(clip_loss(same_BD, same_BD, torch.tensor([50.0])), torch.tensor(8.0).log())


def test_gradient_is_that_of_finite_differences():
    image_BD, text_BD = random_pairs(G=4, D=3)
    inputs = [image_BD.requires_grad_(), text_BD.requires_grad_(), torch.tensor([3.0], dtype=torch.float64)]
    inputs[2].requires_grad_()
    assert torch.autograd.gradcheck(lambda *x: clip_loss(*x, tile=3), inputs)


def test_bfloat16_autocast_does_not_touch_the_similarities():
    image_BD, text_BD = (x.float() for x in random_pairs(G=64, D=32))
    scale = torch.tensor([100.0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = clip_loss(image_BD, text_BD, scale)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, clip_loss(image_BD, text_BD, scale))


def test_large_logits_do_not_overflow():
    image_BD = F.normalize(torch.randn(16, 8), dim=1).requires_grad_()
    loss = clip_loss(image_BD, image_BD.detach(), torch.tensor([1000.0]), tile=5)
    loss.backward()
    assert image_BD.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(image_BD.grad).all()


def test_unpaired_inputs_are_refused():
    with pytest.raises(ValueError, match=r"image \(8, 4\) and text \(7, 4\)"):
        clip_loss(torch.ones(8, 4), torch.ones(7, 4), torch.ones(1))
