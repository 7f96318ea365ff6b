"""A text tower that is trained in part."""

from torch import Tensor, nn


class FrozenTable(nn.Module):
    """Of which the embedding table stays as it is."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower
        tower.token_embedding.requires_grad_(False)  # pyright: ignore
        self.token_embedding = tower.token_embedding

    def forward(self, tokens: Tensor, token_mask: Tensor) -> Tensor:
        return self.tower(tokens, token_mask)
