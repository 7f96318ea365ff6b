"""CLIP's text tower.

Shape letters: B texts, L text length, D width, E joint embedding width.
"""

import torch
from torch import Tensor, nn

from mmfound.models.token_embedding import TokenEmbedding
from mmfound.nn.context import check_context
from mmfound.nn.transformer import Activation, Block


class TextTransformer(nn.Module):
    """Causal pre-norm transformer; a text is read off at its last token, the end token.

    Nothing that comes after the end token reaches it, so texts may be padded to any length.

    Source: Radford et al. 2021, arXiv:2103.00020, section 2.4; initial weights as in OpenAI's model.py.

    Args:
        vocab_size: rows of the embedding table, at least the tokenizer's.
        context: most tokens of a text, at least the tokenizer's.
        width: D, a multiple of `heads`.
        depth: number of blocks.
        heads: attention heads.
        embed_dim: E.
        activation: quick_gelu in OpenAI's weights; most of open_clip's use gelu.
    """

    def __init__(
        self,
        vocab_size: int,
        context: int,
        width: int,
        depth: int,
        heads: int,
        embed_dim: int,
        activation: Activation = "quick_gelu",
    ) -> None:
        super().__init__()
        self.token_embedding = TokenEmbedding(vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(context, width))
        self.blocks = nn.ModuleList(Block(width, heads, activation) for _ in range(depth))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, embed_dim))
        self.initialize()

    def initialize(self) -> None:
        """Draw all weights anew."""
        self.token_embedding.reset_parameters()
        nn.init.normal_(self.positional_embedding, std=0.01)
        for block in self.blocks:
            block.initialize(len(self.blocks))  # pyright: ignore[reportCallIssue]
        nn.init.normal_(self.text_projection, std=self.text_projection.shape[0] ** -0.5)

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
        last_B = token_mask.sum(dim=1) - 1
        end_BD = self.hidden(tokens)[torch.arange(len(tokens), device=tokens.device), last_B]
        return self.ln_final(end_BD) @ self.text_projection

    def hidden(self, tokens: Tensor) -> Tensor:
        """[B, L] ids to [B, L, D]: every position after the last block, before `ln_final`."""
        L, context = tokens.shape[1], self.positional_embedding.shape[0]
        check_context(tokens, context)
        x_BLD = self.token_embedding(tokens) + self.positional_embedding[:L]
        for block in self.blocks:
            x_BLD = block(x_BLD, causal=True)
        return x_BLD

    def depths(self) -> dict[str, int]:
        """Depth of every parameter by name: embeddings 0, block i at i + 1, the last norm there too, then head."""
        depth = len(self.blocks)
        ends = {"token_embedding": 0, "positional_embedding": 0, "ln_final": depth, "text_projection": depth + 1}
        parts = ((name, name.split(".")) for name, _ in self.named_parameters())
        return {name: ends[part[0]] if part[0] in ends else int(part[1]) + 1 for name, part in parts}
