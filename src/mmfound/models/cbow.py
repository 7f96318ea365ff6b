"""Bag-of-words text tower.

Shape letters: B texts, L text length, D width, E joint embedding width.
"""

from torch import Tensor, nn

from mmfound.models.token_embedding import TokenEmbedding


class Cbow(nn.Module):
    """Mean of the token embeddings of a text, projected: the text tower that CLIP scales least.

    Source: Radford et al. 2021, arXiv:2103.00020, section 2.4 and figure 2 (continuous bag of words).

    Args:
        vocab_size: rows of the embedding table, at least the tokenizer's.
        width: D.
        embed_dim: E.
    """

    def __init__(self, vocab_size: int, width: int, embed_dim: int) -> None:
        super().__init__()
        self.token_embedding = TokenEmbedding(vocab_size, width)
        self.text_projection = nn.Linear(width, embed_dim, bias=False)
        nn.init.normal_(self.text_projection.weight, std=width**-0.5)

    def forward(self, tokens: Tensor, token_mask: Tensor) -> Tensor:
        """Embed texts.

        Args:
            tokens: [B, L] int64 ids.
            token_mask: [B, L] bool, True on the tokens that count, at least one a row.

        Returns:
            [B, E], not normalised.
        """
        embedded_BLD = self.token_embedding(tokens) * token_mask[..., None]
        return self.text_projection(embedded_BLD.sum(dim=1) / token_mask.sum(dim=1, keepdim=True))

    def depths(self) -> dict[str, int]:
        """Depth of every parameter by name: 0 for the embedding, 1 for the head."""
        return {name: int(name.startswith("text_projection")) for name, _ in self.named_parameters()}
