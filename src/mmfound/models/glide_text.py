"""GLIDE's text transformer.

Shape letters: B texts, L text length, D width, E width of the U-Net's time embedding.
"""

import torch
from torch import Tensor, nn

from mmfound.models.token_embedding import TokenEmbedding
from mmfound.nn.context import check_context
from mmfound.nn.transformer import Block


class GlideText(nn.Module):
    """Bidirectional pre-norm transformer that sees its padding: a learned vector for each position.

    Every text has `context` positions. What follows its tokens is padding, and the empty text is nothing else. Token
    embeddings start from N(0, 1), as in the released code: from small ones, what words mean is learned late.

    Source: Nichol et al. 2021, arXiv:2112.10741, section 3; the paddings as in the weights that OpenAI released.

    Args:
        vocab_size: rows of the embedding table, at least the tokenizer's.
        context: positions of every text.
        width: D, a multiple of `heads`.
        depth: number of blocks.
        heads: attention heads.
        embed_dim: E, 4 times the U-Net's width.
    """

    def __init__(self, vocab_size: int, context: int, width: int, depth: int, heads: int, embed_dim: int) -> None:
        super().__init__()
        self.width, self.embed_dim = width, embed_dim
        self.token_embedding = TokenEmbedding(vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(context, width))
        self.padding_embedding = nn.Parameter(torch.empty(context, width))
        self.blocks = nn.ModuleList(Block(width, heads, "gelu") for _ in range(depth))
        self.ln_final = nn.LayerNorm(width)
        self.vector_proj = nn.Linear(width, embed_dim)
        nn.init.normal_(self.token_embedding.weight)
        nn.init.normal_(self.positional_embedding, std=0.01)
        nn.init.normal_(self.padding_embedding, std=0.01)
        for block in self.blocks:
            block.initialize(depth)  # pyright: ignore[reportCallIssue]

    def forward(self, tokens: Tensor, token_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode texts.

        Args:
            tokens: [B, L] int64 ids, right-padded, L <= context.
            token_mask: [B, L] bool, True on real tokens; an empty text has none.

        Returns:
            [B, context, D] the last hidden states, normalised, and [B, E] a projection of that of the last position.

        Raises:
            ConfigError: if the texts are longer than `context`.
        """
        L, context = tokens.shape[1], self.positional_embedding.shape[0]
        check_context(tokens, context)
        x_BLD = self.token_embedding(tokens) + self.positional_embedding[:L]
        x_BLD = torch.where(token_mask[:, :, None], x_BLD, self.padding_embedding[:L])
        rest_BLD = self.padding_embedding[L:].expand(len(tokens), -1, -1)
        x_BLD = torch.cat([x_BLD, rest_BLD.to(x_BLD.dtype)], dim=1)
        for block in self.blocks:
            x_BLD = block(x_BLD)
        hidden_BLD = self.ln_final(x_BLD)
        return hidden_BLD, self.vector_proj(hidden_BLD[:, -1])
