"""SigLIP's text tower.

Shape letters: B texts, L text length, D width, E joint embedding width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfound.models.token_embedding import TokenEmbedding
from mmfound.nn.context import check_context
from mmfound.nn.transformer import Activation, Block


class SiglipText(nn.Module):
    """Bidirectional pre-norm transformer over texts padded to `context`, read off at the last position.

    It looks at its padding, as it was trained to: texts of a batch that was padded to less are filled up here.

    Source: Zhai et al. 2023, arXiv:2303.15343; weights as in big_vision's text transformer.

    Args:
        vocab_size: rows of the embedding table, at least the tokenizer's.
        context: positions of every text.
        width: D, a multiple of `heads`.
        depth: number of blocks.
        heads: attention heads.
        embed_dim: E.
        activation: gelu_tanh in the weights that were released.
        mlp_width: of the MLPs; four times `width` where not given.
        pad_id: what texts are filled up with; 1 in SigLIP, 0 in SigLIP 2.
    """

    def __init__(
        self,
        vocab_size: int,
        context: int,
        width: int,
        depth: int,
        heads: int,
        embed_dim: int,
        activation: Activation = "gelu_tanh",
        *,
        mlp_width: int | None = None,
        pad_id: int = 1,
    ) -> None:
        super().__init__()
        self.pad_id = pad_id
        self.token_embedding = TokenEmbedding(vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(context, width))
        self.blocks = nn.ModuleList(
            Block(width, heads, activation, mlp_width=mlp_width, eps=1e-6) for _ in range(depth)
        )
        self.ln_final = nn.LayerNorm(width, 1e-6)
        self.head = nn.Linear(width, embed_dim)
        nn.init.normal_(self.positional_embedding, std=0.01)
        for block in self.blocks:
            block.initialize(depth)  # pyright: ignore[reportCallIssue]
        nn.init.normal_(self.head.weight, std=width**-0.5)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor, token_mask: Tensor) -> Tensor:
        """Embed texts.

        Args:
            tokens: [B, L] int64 ids, right-padded, L <= context.
            token_mask: [B, L] bool, True on real tokens.

        Returns:
            [B, E], not normalised.

        Raises:
            ConfigError: if the texts are longer than `context`.
        """
        L, context = tokens.shape[1], self.positional_embedding.shape[0]
        check_context(tokens, context)
        filled_BL = F.pad(tokens.masked_fill(~token_mask, self.pad_id), (0, context - L), value=self.pad_id)
        x_BLD = self.token_embedding(filled_BL) + self.positional_embedding
        for block in self.blocks:
            x_BLD = block(x_BLD)
        return self.head(self.ln_final(x_BLD[:, -1]))
