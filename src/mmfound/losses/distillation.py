"""A teacher's similarities as targets for a student's.

Shape letters: B pairs on this rank, G pairs on all ranks, D a student's and E a teacher's embedding width, t rows of a
tile.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmfound.distributed import gather_batch

_TILE_ELEMENTS = 2**22  # 16 MiB of float32


def distillation_loss(
    image_BD: Tensor,
    text_BD: Tensor,
    logit_scale: Tensor,
    teacher_image_BE: Tensor,
    teacher_text_BE: Tensor,
    teacher_scale: Tensor,
    *,
    tile: int | None = None,
) -> Tensor:
    """Cross-entropy of the student's choice among the global batch's texts (pictures) against the teacher's.

    Its gradient is that of the Kullback-Leibler divergence, from which it differs by the teacher's entropy. Each rank
    computes its pictures against all texts and its texts against all pictures: the mean of the ranks' losses, and of
    their gradients, is that of one process with the whole batch. In float32 at least, under autocast too. The gradient
    is made in the forward pass: memory grows with G, not with B * G. The teacher gets none.

    Args:
        image_BD: the student's embeddings, of unit length.
        text_BD: of the paired texts; every rank must have the same B.
        logit_scale: factor on the student's similarities, of one element.
        teacher_image_BE: the teacher's embeddings of the same pictures, of unit length.
        teacher_text_BE: and texts.
        teacher_scale: factor on the teacher's similarities, of one element.
        tile: rows of similarities held at a time; by default as many as fit 2**22 elements.

    Returns:
        Scalar: mean over this rank's pairs and both directions.

    Source: open_clip's DistillClipLoss; Hinton et al. 2015, arXiv:1503.02531.
    """
    with torch.autocast(image_BD.device.type, enabled=False), torch.no_grad():
        dtype = torch.promote_types(image_BD.dtype, torch.float32)
        teacher = [x.to(dtype) for x in (teacher_image_BE, teacher_text_BE)]
        scaled = [x * teacher_scale.to(dtype) for x in teacher]
        teacher_G = [gather_batch(x) for x in teacher]
    with torch.autocast(image_BD.device.type, enabled=False):
        student = [image_BD.to(dtype), text_BD.to(dtype)]
        student_G = [gather_batch(x) for x in student]
        rows = tile or max(1, _TILE_ELEMENTS // len(student_G[0]))
        image, text = 0, 1
        totals = [
            _SoftCrossEntropySum.apply(student[a] * logit_scale.to(dtype), student_G[b], scaled[a], teacher_G[b], rows)
            for a, b in ((image, text), (text, image))
        ]
        return (totals[0] + totals[1]) / (2 * len(image_BD))  # pyright: ignore[reportOperatorIssue]


class _SoftCrossEntropySum(torch.autograd.Function):
    """Sum over rows of the cross-entropy of softmax(a @ b.T) against softmax(u @ v.T)."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, a_BD: Tensor, b_GD: Tensor, u_BE: Tensor, v_GE: Tensor, rows: int
    ) -> Tensor:
        wanted = any(ctx.needs_input_grad)
        total = a_BD.new_zeros(())
        grad_a, grad_b = (torch.zeros_like(x) if wanted else None for x in (a_BD, b_GD))
        for start in range(0, len(a_BD), rows):
            tile = slice(start, start + rows)
            target_tG = (u_BE[tile] @ v_GE.T).softmax(dim=1)
            log_tG = (a_BD[tile] @ b_GD.T).log_softmax(dim=1)
            total -= (target_tG * log_tG).sum()
            if grad_a is None or grad_b is None:
                continue
            grad_tG = log_tG.exp_().sub_(target_tG)
            torch.mm(grad_tG, b_GD, out=grad_a[tile])
            grad_b.addmm_(grad_tG.T, a_BD[tile])
        ctx.save_for_backward(grad_a, grad_b)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        grad_a, grad_b = ctx.saved_tensors
        return grad * grad_a, grad * grad_b, None, None, None
