"""Parts joined to one batch."""

from typing import Any

import torch

from mmfound.data.joining import joined


def part(width: int, first: int, **more: Any) -> dict[str, Any]:
    tokens = torch.arange(first, first + 2)[:, None].expand(2, width)
    return {
        "key": [f"k{first}", f"k{first + 1}"],
        "tokens": tokens,
        "text_id": torch.tensor([first, first + 1]),
        **more,
    }


def test_texts_are_padded_to_the_longest():
    batch = joined(iter([part(8, 1), part(16, 3), part(8, 5)]), 6)
    assert batch["key"] == [f"k{number}" for number in range(1, 7)]
    assert batch["text_id"].tolist() == [1, 2, 3, 4, 5, 6]
    assert batch["tokens"].shape == (6, 16)
    assert batch["tokens"][:, 0].tolist() == [1, 2, 3, 4, 5, 6]
    assert batch["tokens"][:, 8].tolist() == [0, 0, 3, 4, 0, 0]


def test_only_keys_that_all_have_are_kept():
    label = torch.tensor([1, 2])
    batch = joined(iter([part(8, 1, label=label), part(8, 3), part(8, 5, label=label)]), 6)
    assert set(batch) == {"key", "tokens", "text_id"}


def test_a_single_part_is_handed_on_as_it_is():
    only = part(8, 1)
    assert joined(iter([only]), 2) is only
