"""The contrastive task on tiny towers."""

import math

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer

from mmfound.abilities import EmbedsImagesAndText
from mmfound.errors import ConfigError
from mmfound.models import Cbow, ConvTower, DualEncoder, TextTransformer
from mmfound.optim import Constant, Optim
from mmfound.tasks import Contrastive


def batch_of_eight() -> dict:
    tokens = torch.arange(1, 33).view(8, 4)
    batch = {"key": [str(i) for i in range(8)], "image": torch.rand(8, 3, 32, 32), "tokens": tokens}
    return batch | {"token_mask": torch.ones(8, 4, dtype=torch.bool), "text_id": torch.arange(8)}


def task(text_tower: torch.nn.Module | None = None, **arguments) -> Contrastive:
    text_tower = text_tower or TextTransformer(40, 4, width=64, depth=1, heads=1, embed_dim=32)
    optim = Optim(lambda groups: torch.optim.AdamW(groups, lr=3e-3), Constant())
    return Contrastive(DualEncoder(ConvTower(16, 32), text_tower), optim, **arguments)


def fit(model: Contrastive, steps: int) -> float:
    optimizer = model.optim.build(model, total_steps=steps)["optimizer"]
    batch, loss = batch_of_eight(), torch.tensor(math.inf)
    for _ in range(steps):
        loss = model.compute_losses(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model._enforce_bounds()
    return loss.item()


def test_eight_pairs_are_learned_by_heart():
    assert fit(task(), steps=60) < 0.01


def test_eight_pairs_are_learned_by_heart_with_a_bag_of_words():
    assert fit(task(Cbow(40, 64, 32)), steps=60) < 0.01


def test_initial_loss_is_that_of_guessing():
    assert task().compute_losses(batch_of_eight())["loss"].item() == pytest.approx(math.log(8), abs=1.5)


def test_equal_captions_and_labels_are_positives_where_told():
    torch.manual_seed(1)
    batch = batch_of_eight() | {"text_id": torch.zeros(8, dtype=torch.int64), "label": torch.zeros(8).long()}
    losses = {}
    for positives in ("pair", "caption", "label"):
        torch.manual_seed(0)
        losses[positives] = task(positives=positives).compute_losses(batch)["loss"].item()
    assert losses["caption"] == losses["label"]
    assert abs(losses["pair"] - losses["caption"]) > 1e-3


def test_labels_that_are_missing_are_named():
    with pytest.raises(ConfigError, match="positives: label needs labels, but the batch has only"):
        task(positives="label").compute_losses(batch_of_eight())


def test_logit_scale_is_logged_as_a_factor_and_bounded():
    model = task(max_logit_scale=20.0)
    assert model.compute_losses(batch_of_eight())["logit_scale"].item() == pytest.approx(1 / 0.07)
    model.encoder.logit_scale.data.fill_(10.0)
    model._enforce_bounds()
    assert model.encoder.logit_scale.exp().item() == pytest.approx(20.0)


def test_it_embeds_images_and_text_and_refuses_accumulation():
    assert isinstance(task(), EmbedsImagesAndText)
    assert Contrastive.whole_batch_loss


class _Data(LightningDataModule):
    class tokenizer:
        vocab_size = 49408

    def train_dataloader(self):
        return [batch_of_eight()]

    val_dataloader = train_dataloader


def test_a_tokenizer_with_more_ids_than_the_tower_is_refused_before_the_first_step(tmp_path):
    trainer = Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=tmp_path
    )
    with pytest.raises(ConfigError, match="vocab_size 40, but .* makes 49408 ids"):
        trainer.fit(task(), datamodule=_Data())
