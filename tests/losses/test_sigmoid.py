"""siglip_loss against the formula of the paper and open_clip, in float64, for every way of computing it."""

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from mmfound.distributed import rank, world_size
from mmfound.losses.sigmoid import siglip_loss
from tests.ranks import run_on_ranks

GROUPS = torch.tensor([5, -3, 5, 9, 9, 5, 0, 1])


def random_pairs(G: int = 8, D: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image_GD, text_GD = torch.randn(2, G, D, generator=generator, dtype=torch.float64)
    return F.normalize(image_GD, dim=1), F.normalize(text_GD, dim=1)


def paper(image_GD: Tensor, text_GD: Tensor, scale: Tensor, bias: Tensor, group_G: Tensor | None) -> Tensor:
    """Algorithm 1."""
    group_G = torch.arange(len(image_GD)) if group_G is None else group_G
    label_GG = 2 * (group_G[:, None] == group_G[None, :]).double() - 1
    return -F.logsigmoid(label_GG * (scale * image_GD @ text_GD.T + bias)).sum() / len(image_GD)


def loss_and_gradients(group_G: Tensor | None, tile: int | None, reference: bool = False) -> list[Tensor]:
    """Loss and gradients of two weights, scale and bias, averaged over ranks as DDP does."""
    image_GD, text_GD = random_pairs()
    eye = torch.eye(16, dtype=torch.float64)
    numbers = torch.tensor([[14.0], [-6.0]], dtype=torch.float64)
    leaves = [leaf.clone().requires_grad_() for leaf in (eye, eye, *numbers)]
    mine = slice(rank() * 8 // world_size(), (rank() + 1) * 8 // world_size())
    image_BD, text_BD = image_GD[mine] @ leaves[0], text_GD[mine] @ leaves[1]
    group_B = None if group_G is None else group_G[mine]
    if reference:
        loss = paper(image_BD, text_BD, leaves[2], leaves[3], group_B)
    else:
        loss = siglip_loss(image_BD, text_BD, leaves[2], leaves[3], group_B=group_B, tile=tile)
    (3 * loss).backward()
    values = [loss.detach(), *(leaf.grad for leaf in leaves)]
    for value in values if world_size() > 1 else []:
        dist.all_reduce(value)
        value /= world_size()
    return values


@pytest.mark.parametrize("group_G", [None, GROUPS], ids=["pairs", "groups"])
@pytest.mark.parametrize("tile", [None, 1, 3, 8])
def test_it_equals_the_paper_for_any_tile(group_G: Tensor | None, tile: int | None):
    expected = loss_and_gradients(group_G, None, reference=True)
    torch.testing.assert_close(loss_and_gradients(group_G, tile), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("group_G", [None, GROUPS], ids=["pairs", "groups"])
def test_two_ranks_equal_one_process_on_the_whole_batch(group_G: Tensor | None):
    expected = loss_and_gradients(group_G, None, reference=True)
    for values in run_on_ranks(2, loss_and_gradients, group_G, 3):
        values = [torch.as_tensor(value) for value in values]
        torch.testing.assert_close(values, expected, rtol=1e-10, atol=1e-12)


def test_it_equals_open_clip():
    open_clip = pytest.importorskip("open_clip")

    def values(loss_of) -> list[Tensor]:
        leaves = [
            x.float().requires_grad_() for x in (*random_pairs(32, 8), torch.tensor([12.0]), torch.tensor([-4.0]))
        ]
        loss = loss_of(*leaves)
        loss.backward()
        return [loss.detach(), *(leaf.grad for leaf in leaves)]

    expected = values(open_clip.loss.SigLipLoss())
    torch.testing.assert_close(values(lambda *x: siglip_loss(*x, tile=5)), expected, rtol=1e-5, atol=1e-6)


def test_gradient_is_that_of_finite_differences():
    image_BD, text_BD = random_pairs(G=4, D=3)
    numbers = [torch.tensor([x], dtype=torch.float64, requires_grad=True) for x in (3.0, -1.0)]
    inputs = [image_BD.requires_grad_(), text_BD.requires_grad_(), *numbers]
    assert torch.autograd.gradcheck(lambda *x: siglip_loss(*x, tile=3), inputs)


def test_closed_form_where_nothing_is_learned():
    """All similarities 1: one positive and G - 1 negatives for each picture."""
    same_BD = F.normalize(torch.ones(8, 4), dim=1)
    loss = siglip_loss(same_BD, same_BD, torch.tensor([10.0]), torch.tensor([-10.0]))
    torch.testing.assert_close(loss, 8 * torch.tensor(2.0).log())


def test_bfloat16_autocast_does_not_touch_the_similarities():
    image_BD, text_BD = (x.float() for x in random_pairs(G=64, D=32))
    numbers = (torch.tensor([100.0]), torch.tensor([-10.0]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = siglip_loss(image_BD, text_BD, *numbers)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, siglip_loss(image_BD, text_BD, *numbers))


def test_large_logits_do_not_overflow():
    image_BD = F.normalize(torch.randn(16, 8), dim=1).requires_grad_()
    loss = siglip_loss(image_BD, image_BD.detach(), torch.tensor([1000.0]), torch.tensor([-10.0]), tile=5)
    loss.backward()
    assert image_BD.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(image_BD.grad).all()


def test_unpaired_inputs_are_refused():
    with pytest.raises(ValueError, match=r"image \(8, 4\) and text \(7, 4\)"):
        siglip_loss(torch.ones(8, 4), torch.ones(7, 4), torch.ones(1), torch.ones(1))
