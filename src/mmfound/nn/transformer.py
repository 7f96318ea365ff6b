"""The pre-norm transformer block.

Shape letters: B batch, L sequence length, D width.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from mmfound.nn.attention import SelfAttention

Activation = Literal["quick_gelu", "gelu", "gelu_tanh"]


class QuickGelu(nn.Module):
    """x * sigmoid(1.702 x), the activation of all weights that OpenAI released for CLIP.

    Written with SiLU, which has a kernel for each direction and keeps one tensor for the second where the formula keeps
    two.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(1.702 * x).mul_(1 / 1.702)


class Mlp(nn.Module):
    """Two linear layers, wider between them.

    Args:
        width: D.
        activation: between the layers; "gelu" is the exact one, "gelu_tanh" its approximation.
        mlp_width: between the layers; four times `width` where not given.
    """

    def __init__(self, width: int, activation: Activation, mlp_width: int | None = None) -> None:
        super().__init__()
        mlp_width = mlp_width or 4 * width
        self.c_fc = nn.Linear(width, mlp_width)
        gelu = nn.GELU(approximate="tanh" if activation == "gelu_tanh" else "none")
        self.activation = QuickGelu() if activation == "quick_gelu" else gelu
        self.c_proj = nn.Linear(mlp_width, width)

    def forward(self, x_BLD: Tensor) -> Tensor:
        return self.c_proj(self.activation(self.c_fc(x_BLD)))


class Block(nn.Module):
    """Self-attention and MLP, each on normalised input and added to it.

    Args:
        width: D, a multiple of `heads`.
        heads: number of attention heads.
        activation: of the MLP.
        mlp_width: of the MLP; four times `width` where not given.
        eps: of the normalisations.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        activation: Activation = "quick_gelu",
        *,
        mlp_width: int | None = None,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps)
        self.attn = SelfAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width, eps)
        self.mlp = Mlp(width, activation, mlp_width)

    def forward(self, x_BLD: Tensor, mask: Tensor | None = None, *, causal: bool = False) -> Tensor:
        """[B, L, D] to the same shape; `mask` and `causal` as in `SelfAttention`."""
        x_BLD = x_BLD + self.attn(self.ln_1(x_BLD), mask, causal=causal)
        return x_BLD + self.mlp(self.ln_2(x_BLD))

    def initialize(self, depth: int) -> None:
        """Draw the weights as OpenAI's text transformer of `depth` blocks does (CLIP, model.py)."""
        width = self.ln_1.normalized_shape[0]
        residual_std = width**-0.5 * (2 * depth) ** -0.5
        nn.init.normal_(self.attn.in_proj.weight, std=width**-0.5)
        nn.init.normal_(self.attn.out_proj.weight, std=residual_std)
        nn.init.normal_(self.mlp.c_fc.weight, std=(2 * width) ** -0.5)
        nn.init.normal_(self.mlp.c_proj.weight, std=residual_std)
        nn.init.zeros_(self.attn.in_proj.bias)
        nn.init.zeros_(self.attn.out_proj.bias)
