"""Patch dropout (Li et al. 2023, arXiv:2212.00794), as timm does it within our tower."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mmfound.interpolation import interpolate_exports
from mmfound.models import TimmTower
from mmfound.weights import export, load, pretrained, tensors

NAME = "vit_base_patch32_clip_quickgelu_224"
VIT = {"embed_dim": 32, "depth": 2, "num_heads": 2, "patch_size": 8}


def tower(patch_drop: float = 0.75, image_size: int = 32) -> TimmTower:
    torch.manual_seed(0)
    return TimmTower(NAME, 8, image_size=image_size, patch_drop=patch_drop, options=VIT)


def seen_by_blocks(model: TimmTower, image: Tensor) -> list[Tensor]:
    """What goes into the first block."""
    seen: list[Tensor] = []
    hook = model.model.blocks[0].register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    model(image)
    hook.remove()
    return seen


@pytest.mark.parametrize(("share", "left"), [(0.25, 12), (0.5, 8), (0.75, 4), (0.9, 1)])
def test_exactly_so_many_patches_are_left_beside_the_class_token(share: float, left: int):
    model = tower(share).train()
    model.model.norm_pre = nn.Identity()
    image = torch.rand(6, 3, 32, 32)
    (dropped,) = seen_by_blocks(model, image)
    (whole,) = seen_by_blocks(model.eval(), image)
    assert dropped.shape == (6, 1 + left, 32)
    assert whole.shape == (6, 1 + 16, 32)
    assert torch.equal(dropped[:, 0], whole[:, 0]), "the class token stays first"
    same = (dropped[:, 1:, None] == whole[:, None, 1:]).all(dim=-1)
    assert (same.sum(dim=-1) == 1).all(), "patches are kept as they are, position included"
    assert (same.sum(dim=1) <= 1).all(), "none twice"
    assert len({tuple(row.any(dim=0).tolist()) for row in same}) > 1, "every picture has its own"


def test_the_same_seed_drops_the_same_patches_and_another_others():
    model, image = tower().train(), torch.rand(4, 3, 32, 32)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(model(image).detach())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_indices_are_drawn_on_the_device_of_the_pictures(monkeypatch):
    """No draw on the CPU, for which a step would have to wait."""
    drawn = []
    randn = torch.randn

    def record(*size, **given):
        drawn.append(given.get("device"))
        return randn(*size, **given)

    monkeypatch.setattr(torch, "randn", record)
    tower().train()(torch.rand(2, 3, 32, 32))
    assert drawn == [torch.device("cpu")], "asked for by name, the pictures' own"


def test_an_export_of_a_tower_with_patch_dropout_is_built_again_without(tmp_path: Path):
    """The last epoch of FLIP trains on all patches; weights are the same."""
    model = tower()
    arguments = {"name": NAME, "embed_dim": 8, "image_size": 32, "options": VIT}
    config = {"class_path": "mmfound.models.TimmTower", "init_args": arguments}
    dropping = {**config, "init_args": {**arguments, "patch_drop": 0.75}}
    export(model, dropping, tmp_path / "with")
    again = tower(patch_drop=0.0)
    again.model.head.weight.data.zero_()
    assert load(again, tensors(tmp_path / "with")) is None
    image = torch.rand(2, 3, 32, 32)
    assert torch.equal(again.train()(image), model.eval()(image))
    assert torch.equal(pretrained(tmp_path / "with")(image), model(image))
    export(again, config, tmp_path / "without")
    interpolate_exports(tmp_path / "with", tmp_path / "without", 0.5, tmp_path / "mixed")
