"""Multi-head attention on torch's fused kernels.

Shape letters: B batch, L sequence length, D width, K heads.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Multi-head self-attention with one projection for queries, keys and values, in that order.

    Args:
        width: D, a multiple of `heads`.
        heads: number of heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}.")
        self.heads = heads
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x_BLD: Tensor, mask: Tensor | None = None, *, causal: bool = False) -> Tensor:
        """Attend within each sequence.

        Args:
            x_BLD: [B, L, D] input.
            mask: bool, True where a query (second to last axis) may look at a key (last axis); broadcast to
                [B, K, L, L]. Not together with `causal`.
            causal: a position looks at itself and what comes before it.

        Returns:
            [B, L, D].
        """
        B, L, D = x_BLD.shape
        qkv = self.in_proj(x_BLD).view(B, L, 3, self.heads, D // self.heads)
        query_BKLd, key_BKLd, value_BKLd = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(query_BKLd, key_BKLd, value_BKLd, mask, is_causal=causal)
        return self.out_proj(attended.transpose(1, 2).reshape(B, L, D))
