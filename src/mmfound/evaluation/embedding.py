"""Pictures and texts to embeddings, the work shared out over the ranks.

Shape letters: N images of this rank, M texts, E joint embedding width.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mmfound import distributed
from mmfound.data.source import Source
from mmfound.errors import DataError

Item = TypeVar("Item")


def device_of(model: nn.Module) -> torch.device:
    """Where the model computes."""
    device = getattr(model, "device", None)
    return device if isinstance(device, torch.device) else next(model.parameters()).device


def embed_images(
    model: Any, data: Any, source: Source, method: str = "embed_image"
) -> tuple[Tensor, list[dict[str, Any]]]:
    """Embed this rank's share of a source.

    Args:
        model: embeds images.
        data: gives `eval_batches`.
        source: the pictures.
        method: of the model, from pictures to [B, E].

    Returns:
        [N, E] float32 and the batches it came from, without their pictures.

    Raises:
        DataError: when nothing in the source could be read.
    """
    image, batches = [], []
    for batch, is_new in in_step(data.eval_batches(source, device_of(model))):
        embedded = getattr(model, method)(batch["image"]).float()
        if is_new:
            image.append(embedded)
            batches.append({name: value for name, value in batch.items() if name != "image"})
    if not image:
        raise DataError(f"{type(source).__name__} has {len(source)} samples, and none that can be evaluated.")
    return torch.cat(image), batches


def embed_texts(model: Any, tokenizer: Any, texts: Sequence[str], batch_size: int = 256) -> Tensor:
    """Embed the same texts on all ranks, each of which does its part.

    Args:
        model: embeds text.
        tokenizer: a Tokenizer.
        texts: M of them, at least one.
        batch_size: texts per forward pass.

    Returns:
        [M, E] float32, equal on all ranks.
    """
    device, world = device_of(model), distributed.world_size()
    share = list(texts[distributed.rank() :: world])
    share += [texts[0]] * (-(-len(texts) // world) - len(share))  # sharded weights want equal work on all ranks
    parts = []
    for start in range(0, len(share), batch_size):
        tokens = tokenizer(share[start : start + batch_size])
        parts.append(model.embed_text(tokens["tokens"].to(device), tokens["token_mask"].to(device)).float())
    part = torch.cat(parts)
    every = distributed.gather_rows(part).view(world, *part.shape)
    return every.transpose(0, 1).flatten(0, 1)[: len(texts)]


def gather_lists(items: list[Item]) -> list[Item]:
    """The lists of all ranks behind one another, in rank order."""
    if distributed.world_size() == 1:
        return items
    lists: list[Any] = [None] * distributed.world_size()
    dist.all_gather_object(lists, items)
    return [item for part in lists for item in part]


def in_step(batches: Iterable[Item]) -> Iterator[tuple[Item, bool]]:
    """Batches, each with True; a rank that runs out gets its last again, with False, until all have run out.

    A forward pass of sharded weights waits for that of all other ranks.
    """
    if distributed.world_size() == 1:
        yield from ((batch, True) for batch in batches)
        return
    rest, last = iter(batches), None
    while True:
        batch = next(rest, None)
        left = gather_lists([batch is not None])
        if not any(left):
            return
        last = batch if batch is not None else last
        if last is None:
            raise DataError("an evaluation source has fewer samples than there are processes; use fewer processes.")
        yield last, batch is not None
