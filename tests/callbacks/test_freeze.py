"""What is frozen stays, out of optimiser, average and gradients, under every strategy."""

import re
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader

from mmfound.callbacks import Ema, Freeze
from mmfound.callbacks.freeze import freeze
from mmfound.errors import ConfigError
from mmfound.models import Cbow, ConvTower, DualEncoder, TimmTower
from mmfound.optim import Constant, Optim
from mmfound.rates import LayerDecay
from mmfound.strategies.fsdp2 import Fsdp2
from mmfound.tasks import Contrastive
from tests.ranks import run_on_ranks

pytestmark = pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning")
VIT = {"embed_dim": 32, "depth": 2, "num_heads": 2, "patch_size": 8}


def pairs() -> dict:
    tokens = torch.arange(1, 33).view(8, 4)
    image = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    batch = {"key": [str(i) for i in range(8)], "image": image, "tokens": tokens}
    return batch | {"token_mask": torch.ones(8, 4, dtype=torch.bool), "text_id": torch.arange(8)}


class Pairs(LightningDataModule):
    def train_dataloader(self):
        return DataLoader([pairs()] * 6, batch_size=None)  # pyright: ignore[reportArgumentType]

    val_dataloader = train_dataloader


def task() -> Contrastive:
    torch.manual_seed(0)
    optim = Optim(
        lambda groups: torch.optim.AdamW(groups, lr=1e-2), Constant(), rates=LayerDecay({"encoder.image_tower": 0.5})
    )
    return Contrastive(DualEncoder(ConvTower(4, 8), Cbow(40, 8, 8)), optim)


def fit(model: Contrastive, folder, *callbacks, ckpt_path=None, steps: int = 3, **arguments) -> Trainer:
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=list(callbacks),
        **arguments,
    )
    trainer.fit(model, datamodule=Pairs(), ckpt_path=ckpt_path, weights_only=None if ckpt_path is None else True)
    return trainer


LOCKED = "encoder.image_tower.layers.[01].*"


def test_frozen_weights_and_their_statistics_stay_and_the_rest_is_trained(tmp_path: Path):
    model = task()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ema = Ema(0.5)
    trainer = fit(model, tmp_path, Freeze([LOCKED]), ema)
    stays = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert stays == {name for name in before if re.fullmatch(LOCKED, name)}
    assert any("running_mean" in name for name in stays), "statistics of frozen batch norms stay"
    optimised = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        frozen = re.fullmatch(LOCKED, name) is not None
        assert frozen == (id(parameter) not in optimised) == (parameter.grad is None), name
        assert frozen == (name not in ema.average), name


def test_a_run_goes_on_bit_for_bit_and_the_checkpoint_is_whole(tmp_path: Path):
    whole = task()
    fit(whole, tmp_path, Freeze([LOCKED]), steps=6)
    first = fit(task(), tmp_path, Freeze([LOCKED]), steps=3)
    first.save_checkpoint(tmp_path / "three.ckpt")
    saved = torch.load(tmp_path / "three.ckpt", weights_only=True)["state_dict"]
    assert saved.keys() == whole.state_dict().keys()
    torch.manual_seed(7)
    other = task()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)  # frozen ones come from the checkpoint too
    fit(other, tmp_path, Freeze([LOCKED]), steps=6, ckpt_path=tmp_path / "three.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def under(strategy: str, folder: str) -> list[torch.Tensor]:
    """Weights after three steps, whole."""
    model = task()
    chosen = Fsdp2() if strategy == "fsdp2" else strategy
    fit(model, folder, Freeze([LOCKED]), strategy=chosen, devices=2, use_distributed_sampler=False)
    found = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in model.parameters()]
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in frozen_task().parameters()]
    return [p.detach() for p in found]


def frozen_task() -> Contrastive:
    model = task()
    freeze(model, [LOCKED])
    return model


@pytest.mark.timeout(300)
def test_strategies_agree_on_two_ranks(tmp_path: Path):
    ddp = run_on_ranks(2, under, "ddp", str(tmp_path))[0]
    fsdp = run_on_ranks(2, under, "fsdp2", str(tmp_path))[0]
    fresh = task()
    for (name, start), one, other in zip(fresh.named_parameters(), ddp, fsdp, strict=True):
        torch.testing.assert_close(torch.as_tensor(one), torch.as_tensor(other), rtol=1e-4, atol=1e-5)
        assert torch.equal(torch.as_tensor(one), start) == (re.fullmatch(LOCKED, name) is not None), name


def test_a_locked_tower_stays_in_eval_mode_and_leaves_no_graph():
    tower = TimmTower("vit_tiny_patch16_224", 8, image_size=32, drop_path=0.9, patch_drop=0.5, options=VIT)
    model = DualEncoder(tower, Cbow(40, 8, 8))
    freeze(model, ["image_tower.*"])
    model.train()
    assert not any(part.training for part in model.image_tower.modules())
    assert model.text_tower.training
    image = torch.rand(4, 3, 32, 32)
    first = model.embed_image(image)
    assert first.grad_fn is None
    assert torch.equal(first, model.embed_image(image)), "no patch is dropped"


def test_the_last_groups_of_a_tower_are_left_open_by_a_pattern():
    model = DualEncoder(TimmTower("vit_tiny_patch16_224", 8, image_size=32, options=VIT), Cbow(40, 8, 8))
    freeze(model, [r"image_tower\.(?!model\.(head|norm|blocks\.1)\.).*"])
    open_ = {name for name, p in model.image_tower.named_parameters() if p.requires_grad}
    assert {name.split(".")[1] for name in open_} == {"head", "norm", "blocks"}
    assert all(".blocks.1." in f".{name}" for name in open_ if "blocks" in name)
    model.train()
    assert model.image_tower.model.blocks[1].training
    assert not model.image_tower.model.blocks[0].training


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        (["encoder.text_towr.*"], r"'encoder.text_towr.\*' matches no .* nearest: .*encoder.text_tower"),
        (["image_tower"], "'image_tower' matches no parameter's whole name"),
        ([".*"], "leave nothing to train"),
        (["("], "no regular expression"),
        ([], "give a list"),
        ("encoder.*", "give a list"),
    ],
)
def test_mistakes_are_named(patterns, said: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=said):
        fit(task(), tmp_path, Freeze(patterns))
