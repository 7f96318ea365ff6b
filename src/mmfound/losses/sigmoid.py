"""The sigmoid objective over paired embeddings: every picture and text is a question of its own.

Shape letters: B pairs on this rank, G pairs on all ranks, D embedding width, t rows of a tile.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmfound.distributed import gather_batch, rank

_TILE_ELEMENTS = 2**22  # 16 MiB of float32


def siglip_loss(
    image_BD: Tensor,
    text_BD: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    *,
    group_B: Tensor | None = None,
    tile: int | None = None,
) -> Tensor:
    """Binary cross-entropy of which text belongs to which picture, over all G * G of the global batch.

    Each rank computes its pictures against all texts. The sum over all of them is divided by the number of pairs: the
    mean of the ranks' losses, and of their gradients, is that of one process with the whole batch. Computed in float32
    at least, under autocast too. The gradient is made in the forward pass, so that each tile of similarities is
    computed once and let go: memory grows with G, not with B * G.

    Args:
        image_BD: embeddings of unit length.
        text_BD: embeddings of the paired texts; every rank must have the same B.
        logit_scale: factor on the similarities, of one element (not its logarithm); 10 at first in the paper.
        logit_bias: added to them, of one element; -10 at first in the paper.
        group_B: int64; a text belongs to every picture of equal value. Without it, to its own alone.
        tile: pictures whose similarities to all texts are held at a time; by default as many as fit 2**22 elements.

    Returns:
        Scalar: mean over this rank's pictures of the sum over texts.

    Raises:
        ValueError: if the two sides differ in shape.

    Source: Zhai et al. 2023, arXiv:2303.15343, equation 1 and algorithm 1.
    """
    if image_BD.shape != text_BD.shape:
        raise ValueError(
            f"siglip_loss needs one text per image: got image {tuple(image_BD.shape)} and text {tuple(text_BD.shape)}."
        )
    with torch.autocast(image_BD.device.type, enabled=False):
        dtype = torch.promote_types(image_BD.dtype, torch.float32)
        query_BD = image_BD.to(dtype) * logit_scale.to(dtype)
        text_GD = gather_batch(text_BD.to(dtype))
        group_G = None if group_B is None else gather_batch(group_B)
        rows = tile or max(1, _TILE_ELEMENTS // len(text_GD))
        first = rank() * len(query_BD)
        total = _SigmoidSum.apply(query_BD, text_GD, logit_bias.to(dtype), group_G, first, rows)
        return total / len(query_BD)  # pyright: ignore[reportOperatorIssue]


class _SigmoidSum(torch.autograd.Function):
    """Sum of -log sigmoid(± (a @ b.T + bias)), + where a row and a column belong together."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, a_BD: Tensor, b_GD: Tensor, bias: Tensor, group_G: Tensor | None, first: int, rows: int
    ) -> Tensor:
        wanted = any(ctx.needs_input_grad)
        total = a_BD.new_zeros(())
        grad_a, grad_b = (torch.zeros_like(x) if wanted else None for x in (a_BD, b_GD))
        grad_bias = torch.zeros_like(bias)
        for start in range(0, len(a_BD), rows):
            tile = slice(start, start + rows)
            # Minus the argument of log sigmoid.
            z_tG = _negate_pairs(torch.mm(a_BD[tile], b_GD.T).add_(bias), group_G, first + start)
            total += F.softplus(z_tG).sum()
            if grad_a is None or grad_b is None:
                continue
            grad_tG = _negate_pairs(z_tG.sigmoid_(), group_G, first + start)
            torch.mm(grad_tG, b_GD, out=grad_a[tile])
            grad_b.addmm_(grad_tG.T, a_BD[tile])
            grad_bias += grad_tG.sum()
        ctx.save_for_backward(grad_a, grad_b, grad_bias)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        grad_a, grad_b, grad_bias = ctx.saved_tensors
        return grad * grad_a, grad * grad_b, grad * grad_bias, None, None, None


def _negate_pairs(x_tG: Tensor, group_G: Tensor | None, first: int) -> Tensor:
    """In place where a row, the first of which is number `first`, and a column belong together."""
    if group_G is None:
        x_tG.diagonal(first).neg_()
        return x_tG
    together = group_G[first : first + len(x_tG), None] == group_G
    return torch.where(together, -x_tG, x_tG)
