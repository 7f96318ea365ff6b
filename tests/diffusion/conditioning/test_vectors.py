import pytest
import torch

from mmfound.diffusion.conditioning import ClassLabels, Pooled
from mmfound.errors import ConfigError

DROPPED = torch.tensor([True, False, True])


def test_the_null_is_a_learned_row_whatever_the_class_or_vector():
    labels = ClassLabels(classes=4, embed_dim=8, drop=0.1)
    one, other = (labels({"label": torch.tensor(ids)}, DROPPED).vector for ids in ([0, 1, 2], [3, 1, 3]))
    assert torch.equal(one, other)
    assert torch.equal(one[0], labels.table.weight[-1])
    pooled = Pooled("image_embedding", width=5, embed_dim=8, drop=0.1)
    one, other = (pooled({"image_embedding": torch.randn(3, 5)}, DROPPED).vector for _ in range(2))
    assert torch.equal(one[DROPPED], other[DROPPED])
    assert not torch.equal(one[1], other[1])
    assert pooled.reads == ("image_embedding",)


def test_the_null_is_learned():
    labels = ClassLabels(classes=4, embed_dim=8, drop=0.1)
    labels({"label": torch.tensor([0, 1, 2])}, DROPPED).vector.sum().backward()
    assert labels.table.weight.grad[-1].tolist() == [2.0] * 8


@pytest.mark.parametrize("label", [4, -1])
def test_a_label_without_a_row_is_named(label: int):
    with pytest.raises(ConfigError, match=f"classes: 4, but is given label {label}"):
        ClassLabels(classes=4, embed_dim=8).check({"label": torch.tensor([0, label])})


def test_a_rate_that_is_no_share_is_refused():
    with pytest.raises(ConfigError, match=r"ClassLabels: drop is 1\.5"):
        ClassLabels(4, 8, drop=1.5)
