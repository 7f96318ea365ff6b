"""Contrastive objectives over paired embeddings.

Shape letters: B pairs on this rank, G pairs on all ranks, D embedding width, S groups.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmfound.distributed import gather_batch, rank

_TILE_ELEMENTS = 2**23  # 32 MiB of float32; a batch of 2048 on one process is not cut


def clip_loss(
    image_BD: Tensor,
    text_BD: Tensor,
    logit_scale: Tensor,
    *,
    group_B: Tensor | None = None,
    tile: int | None = None,
) -> Tensor:
    """Symmetric cross-entropy between pictures and texts of the global batch.

    Each rank computes its pictures against all texts, once for both directions: the texts' normalisers are summed over
    ranks from the columns. The mean of the ranks' losses, and of their gradients, is that of one process with the whole
    batch. Computed in float32 at least, under autocast too. Memory grows with G, not with B * G.

    Args:
        image_BD: embeddings of unit length.
        text_BD: embeddings of the paired texts; every rank must have the same B.
        logit_scale: factor on the similarities, of one element (not its logarithm).
        group_B: int64; pairs of equal value are positives of one another, each picture's (text's) target being uniform
            over their texts (pictures). Without it a pair has one positive, itself.
        tile: pictures whose similarities to all texts are held at a time; by default as many as fit 2**23 elements.

    Returns:
        Scalar, the mean over this rank's pairs and both directions; log(G) when all embeddings are equal.

    Raises:
        ValueError: if the two sides differ in shape.

    Source: Radford et al. 2021, arXiv:2103.00020, figure 3.
    """
    if image_BD.shape != text_BD.shape:
        raise ValueError(
            f"clip_loss needs one text per image: got image {tuple(image_BD.shape)} and text {tuple(text_BD.shape)}."
        )
    with torch.autocast(image_BD.device.type, enabled=False):
        dtype = torch.promote_types(image_BD.dtype, torch.float32)
        query_BD = image_BD.to(dtype) * logit_scale.to(dtype)
        text_GD = gather_batch(text_BD.to(dtype))
        B, G = len(query_BD), len(text_GD)
        rows = tile or max(1, _TILE_ELEMENTS // G)
        row_lse_B, column_lse_G = _RowAndColumnLogSumExp.apply(query_BD, text_GD, rows)  # pyright: ignore
        column_lse_G = gather_batch(column_lse_G[None]).logsumexp(dim=0)
        column_lse_B = column_lse_G[rank() * B : (rank() + 1) * B]
        target_BD = text_BD.to(dtype) if group_B is None else _group_means(text_GD, group_B)
        # Over the whole batch the texts' positive terms have the same sum as the pictures'.
        return ((row_lse_B + column_lse_B) / 2 - (query_BD * target_BD).sum(dim=1)).mean()


class _RowAndColumnLogSumExp(torch.autograd.Function):
    """Log-sum-exp of each row and each column of a @ b.T, a few rows at a time, recomputed in the backward pass."""

    @staticmethod
    def forward(ctx: Any, a_BD: Tensor, b_GD: Tensor, rows: int) -> tuple[Tensor, Tensor]:  # pyright: ignore
        row_lse, column_lse, similarity = [], None, None
        for a_tD in a_BD.split(rows):
            similarity = a_tD @ b_GD.T
            row_lse.append(similarity.logsumexp(dim=1))
            columns_G = similarity.logsumexp(dim=0)
            column_lse = columns_G if column_lse is None else torch.logaddexp(column_lse, columns_G)
        assert column_lse is not None, "an empty batch"
        row_lse_B = torch.cat(row_lse)
        ctx.rows = rows
        ctx.save_for_backward(a_BD, b_GD, row_lse_B, column_lse, similarity if len(row_lse) == 1 else None)
        return row_lse_B, column_lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_row_B: Tensor, grad_column_G: Tensor):  # pyright: ignore
        a_BD, b_GD, row_lse_B, column_lse_G, similarity = ctx.saved_tensors
        grad_a_BD, grad_b_GD = torch.empty_like(a_BD), torch.zeros_like(b_GD)
        for start in range(0, len(a_BD), ctx.rows):
            tile = slice(start, start + ctx.rows)
            if similarity is None:
                similarity = a_BD[tile] @ b_GD.T
            grad_tG = (similarity - row_lse_B[tile, None]).exp_().mul_(grad_row_B[tile, None])
            grad_tG.addcmul_((similarity - column_lse_G).exp_(), grad_column_G)
            torch.mm(grad_tG, b_GD, out=grad_a_BD[tile])
            grad_b_GD.addmm_(grad_tG.T, a_BD[tile])
            similarity = None
        return grad_a_BD, grad_b_GD, None


def _group_means(x_GD: Tensor, group_B: Tensor) -> Tensor:
    """[B, D]: for each pair of this rank the mean of `x_GD` over its group."""
    B = len(group_B)
    group_G = gather_batch(group_B)
    ordered_G, order_G = group_G.sort()
    starts_G = torch.ones_like(ordered_G)
    starts_G[1:] = ordered_G[1:] != ordered_G[:-1]
    group_index_G = torch.empty_like(order_G).scatter_(0, order_G, starts_G.cumsum(0) - 1)
    sum_SD = torch.zeros_like(x_GD).index_add(0, group_index_G, x_GD)
    count_S = torch.zeros_like(x_GD[:, 0]).index_add(0, group_index_G, torch.ones_like(x_GD[:, 0]))
    mine_B = group_index_G[rank() * B : (rank() + 1) * B]
    return sum_SD[mine_B] / count_S[mine_B, None]
