"""distillation_loss against open_clip's, in float64, for every way of computing it."""

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from mmfound.distributed import rank, world_size
from mmfound.losses.distillation import distillation_loss
from tests.ranks import run_on_ranks


def unit(G: int, D: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(G, D, generator=generator, dtype=torch.float64), dim=1)


def formula(image: Tensor, text: Tensor, scale: Tensor, t_image: Tensor, t_text: Tensor, t_scale: Tensor) -> Tensor:
    logits, targets = scale * image @ text.T, t_scale * t_image @ t_text.T
    return (F.cross_entropy(logits, targets.softmax(1)) + F.cross_entropy(logits.T, targets.T.softmax(1))) / 2


def loss_and_gradients(tile: int | None, reference: bool = False) -> list[Tensor]:
    """Loss and gradients of two weights and the scale, averaged over ranks as DDP does."""
    eye, scale = torch.eye(16, dtype=torch.float64), torch.tensor([9.0], dtype=torch.float64)
    leaves = [leaf.clone().requires_grad_() for leaf in (eye, eye, scale)]
    mine = slice(rank() * 8 // world_size(), (rank() + 1) * 8 // world_size())
    image, text, *teacher = (unit(8, D, seed)[mine] for seed, D in enumerate((16, 16, 5, 5)))
    arguments = (image @ leaves[0], text @ leaves[1], leaves[2], *teacher, torch.tensor([20.0]).double())
    loss = formula(*arguments) if reference else distillation_loss(*arguments, tile=tile)
    (3 * loss).backward()
    values = [loss.detach(), *(leaf.grad for leaf in leaves)]
    for value in values if world_size() > 1 else []:
        dist.all_reduce(value)
        value /= world_size()
    return values


@pytest.mark.parametrize("tile", [None, 1, 3, 8])
def test_it_equals_the_formula_for_any_tile(tile: int | None):
    expected = loss_and_gradients(None, reference=True)
    torch.testing.assert_close(loss_and_gradients(tile), expected, rtol=1e-10, atol=1e-12)


def test_two_ranks_equal_one_process_on_the_whole_batch():
    expected = loss_and_gradients(None, reference=True)
    for values in run_on_ranks(2, loss_and_gradients, 3):
        torch.testing.assert_close([torch.as_tensor(x) for x in values], expected, rtol=1e-10, atol=1e-12)


def test_it_equals_open_clip():
    open_clip = pytest.importorskip("open_clip")
    teacher = [unit(32, 6, 2).float(), unit(32, 6, 3).float(), torch.tensor([30.0])]

    def values(loss_of) -> list[Tensor]:
        leaves = [x.float().requires_grad_() for x in (unit(32, 8, 0), unit(32, 8, 1), torch.tensor([12.0]))]
        loss = loss_of(*leaves, *teacher)
        loss.backward()
        return [loss.detach(), *(leaf.grad for leaf in leaves)]

    expected = values(lambda *x: open_clip.loss.DistillClipLoss()(*x)[1])
    torch.testing.assert_close(values(lambda *x: distillation_loss(*x, tile=5)), expected, rtol=1e-5, atol=1e-6)


def test_a_student_that_equals_its_teacher_has_no_gradient():
    image, text = unit(8, 4, 0).requires_grad_(), unit(8, 4, 1).requires_grad_()
    scale = torch.tensor([10.0]).double()
    distillation_loss(image, text, scale, image.detach(), text.detach(), scale).backward()
    torch.testing.assert_close(image.grad, torch.zeros_like(image), rtol=0, atol=1e-12)


def test_bfloat16_autocast_does_not_touch_the_similarities():
    pairs = [unit(16, 8, seed).float() for seed in range(4)]
    arguments = (*pairs[:2], torch.tensor([100.0]), *pairs[2:], torch.tensor([50.0]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = distillation_loss(*arguments)
    assert torch.equal(loss, distillation_loss(*arguments))
