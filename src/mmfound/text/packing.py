"""From lists of ids to a padded batch, and back to the ids between start and end."""

from collections.abc import Sequence

import numpy as np
import torch

from mmfound.errors import ConfigError
from mmfound.text.tokenizer import TokenBatch


def pack(texts: Sequence[Sequence[int]], start_id: int, end_id: int, context: int) -> TokenBatch:
    """Put start and end around every text, cut to `context`, pad with 0 to the longest rounded up to 8.

    Args:
        texts: ids of each text without start and end.
        start_id: first id of every row.
        end_id: last real id of every row, of those cut too.
        context: most tokens of a row, start and end included.
    """
    texts = [ids[: context - 2] for ids in texts]
    lengths = np.array([len(ids) + 2 for ids in texts], dtype=np.int64)
    width = min(context, -(-int(lengths.max(initial=8)) // 8) * 8)
    tokens = np.zeros((len(texts), width), dtype=np.int64)
    for row, ids in zip(tokens, texts, strict=True):
        row[0] = start_id
        row[1 : len(ids) + 1] = ids
        row[len(ids) + 1] = end_id
    return {"tokens": torch.from_numpy(tokens), "token_mask": torch.from_numpy(np.arange(width) < lengths[:, None])}


def unpack(ids: Sequence[int], start_id: int, end_id: int) -> list[int]:
    """The ids after the start and before the first end token; what follows the end is padding."""
    ids = [int(i) for i in ids]
    ids = ids[: ids.index(end_id)] if end_id in ids else ids
    return [i for i in ids if i != start_id]


def checked_context(context: int) -> int:
    """`context` itself.

    Raises:
        ConfigError: when there is no room for a token between start and end.
    """
    if context < 3:
        raise ConfigError(f"tokenizer: context is {context}; it must be at least 3 (start, one token, end)")
    return context
