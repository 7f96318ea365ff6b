import torch
from torch import Tensor, nn

from mmfound.diffusion.conditioning import FrozenText, TrainedText
from mmfound.models import TextTransformer


class Words(nn.Module):
    """A text transformer in small: padding is a learned vector, and the last position is the pooled text."""

    def __init__(self, context: int = 6, width: int = 8, embed_dim: int = 12) -> None:
        super().__init__()
        self.width, self.embed_dim, self.context = width, embed_dim, context
        self.table = nn.Embedding(20, width)
        self.padding = nn.Parameter(torch.randn(context, width))
        self.layer = nn.TransformerEncoderLayer(width, 2, 16, 0.0, batch_first=True)
        self.out = nn.Linear(width, embed_dim)

    def forward(self, tokens: Tensor, token_mask: Tensor) -> tuple[Tensor, Tensor]:
        more = self.context - tokens.shape[1]
        tokens, token_mask = nn.functional.pad(tokens, (0, more)), nn.functional.pad(token_mask, (0, more))
        x = self.layer(torch.where(token_mask[..., None], self.table(tokens), self.padding))
        return x, self.out(x[:, -1])


def texts(lengths: list[int], L: int = 6) -> dict[str, Tensor]:
    mask = torch.arange(L) < torch.tensor(lengths)[:, None]
    return {"tokens": torch.randint(1, 20, (len(lengths), L)) * mask, "token_mask": mask}


def frozen(drop: float = 0.1) -> FrozenText:
    tower = TextTransformer(vocab_size=20, context=6, width=8, depth=1, heads=2, embed_dim=10)
    return FrozenText(tower, tower_width=8, pooled_width=10, width=16, embed_dim=12, drop=drop)


def test_a_dropped_caption_is_bit_for_bit_the_null_of_sampling():
    dropped = torch.tensor([True, False, True, False])
    batch = texts([3, 5, 1, 6])
    for conditioner in (TrainedText(Words(), drop=0.2), frozen()):
        trained, null = conditioner(batch, dropped), conditioner(batch, torch.ones(4, dtype=torch.bool))
        for part in ("tokens", "mask", "vector"):
            mine, theirs = getattr(trained, part), getattr(null, part)
            if mine is not None:
                assert torch.equal(mine[dropped], theirs[dropped])
                assert not torch.equal(mine[~dropped], theirs[~dropped])


def test_a_trained_transformer_drops_to_the_empty_caption():
    conditioner, batch = TrainedText(Words()), texts([3, 5])
    null = conditioner(batch, torch.ones(2, dtype=torch.bool))
    tokens, vector = conditioner.transformer(torch.zeros(2, 0, dtype=torch.long), torch.zeros(2, 0, dtype=torch.bool))
    assert torch.equal(null.tokens, tokens)
    assert torch.equal(null.vector, vector)


def test_the_null_of_a_frozen_tower_does_not_depend_on_the_text_and_keeps_a_token():
    conditioner, every = frozen(), torch.ones(3, dtype=torch.bool)
    one, other = (conditioner(texts(lengths), every) for lengths in ([1, 2, 3], [6, 6, 6]))
    assert torch.equal(one.mask, other.mask)
    assert torch.equal(one.tokens[one.mask], other.tokens[other.mask])
    assert torch.equal(one.vector, other.vector)
    assert one.mask.sum(dim=1).tolist() == [1, 1, 1]


def test_a_frozen_tower_stays_in_eval_mode_and_without_gradients():
    conditioner = frozen().train()
    assert conditioner.training
    assert not any(part.training for part in conditioner.tower.modules())
    condition = conditioner(texts([3, 5]), torch.zeros(2, dtype=torch.bool))
    (condition.tokens.sum() + condition.vector.sum()).backward()
    assert all(p.grad is None for p in conditioner.tower.parameters())
    assert conditioner.token_projection.weight.grad is not None
