"""The sigmoid task on tiny towers."""

import pytest
import torch

from mmfound.abilities import EmbedsImagesAndText, GivesImageFeatures
from mmfound.errors import ConfigError
from mmfound.models import Cbow, ConvTower, DualEncoder, TextTransformer, TimmTower
from mmfound.optim import Constant, Optim
from mmfound.tasks import Siglip
from mmfound.weights import export, pretrained
from tests.tasks.test_contrastive import batch_of_eight

VIT = {"embed_dim": 32, "depth": 2, "num_heads": 2, "patch_size": 8}


def task(image_tower: torch.nn.Module | None = None, **arguments) -> Siglip:
    tower = TextTransformer(40, 4, width=64, depth=1, heads=1, embed_dim=32)
    optim = Optim(lambda groups: torch.optim.AdamW(groups, lr=3e-3, weight_decay=0.1), Constant())
    encoder = DualEncoder(image_tower or ConvTower(16, 32), tower, init_temperature=0.1, init_bias=-10.0)
    return Siglip(encoder, optim, **arguments)


def test_eight_pairs_are_learned_by_heart():
    model = task()
    optimizer = model.optim.build(model, 80)["optimizer"]
    first = loss = model.compute_losses(batch_of_eight())["loss"]
    for _ in range(80):
        loss = model.compute_losses(batch_of_eight() | {"image": IMAGES})["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert first.item() > 1
    assert loss.item() < 0.3


IMAGES = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def test_scale_and_bias_are_trained_without_decay():
    model = task()
    groups = {id(p): g.get("weight_decay") for g in model.optim.groups(model) for p in g["params"]}
    assert groups[id(model.encoder.logit_scale)] == groups[id(model.encoder.logit_bias)] == 0.0
    losses = model.compute_losses(batch_of_eight())
    losses["loss"].backward()
    assert model.encoder.logit_bias.grad.abs() > 0
    assert (losses["logit_scale"].item(), losses["logit_bias"].item()) == (pytest.approx(10.0), -10.0)


def test_an_encoder_without_a_bias_is_refused_and_keeps_its_state_dict():
    encoder = DualEncoder(ConvTower(4, 8), Cbow(40, 8, 8))
    assert encoder.logit_bias is None
    assert "logit_bias" not in encoder.state_dict()
    with pytest.raises(ConfigError, match="init_bias"):
        Siglip(encoder, Optim(torch.optim.SGD, Constant()))


def test_the_bias_survives_an_export(tmp_path):
    text = {"class_path": "mmfound.models.Cbow", "init_args": {"vocab_size": 40, "width": 8, "embed_dim": 8}}
    image = {"class_path": "mmfound.models.ConvTower", "init_args": {"width": 4, "embed_dim": 8}}
    arguments = {"image_tower": image, "text_tower": text, "init_bias": -10.0}
    encoder = DualEncoder(ConvTower(4, 8), Cbow(40, 8, 8), init_bias=-7.0)
    export(encoder, {"class_path": "mmfound.models.DualEncoder", "init_args": arguments}, tmp_path / "export")
    assert pretrained(tmp_path / "export").logit_bias.tolist() == [-7.0]


@pytest.mark.parametrize("size", [3, 8])
def test_chunks_give_the_gradients_of_the_whole_batch_patch_dropout_too(size: int):
    """Per-chunk seeds: the same patches are dropped in both passes, and in a chunk as in a micro-batch."""
    torch.manual_seed(0)
    model = task(TimmTower("vit_tiny_patch16_224", 32, image_size=32, patch_drop=0.5, options=VIT)).train()
    model.encoder.image_tower.model.head.weight.data.normal_()
    batch = batch_of_eight() | {"image": IMAGES}
    seeds = list(range(100, 100 + -(-8 // size)))
    model.use_chunks(size if size < 8 else 4)
    model.chunk_seeds = seeds if size < 8 else [100, 101]
    model.compute_losses(batch)["loss"].backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    step = size if size < 8 else 4
    parts = []
    for seed, start in zip(model.chunk_seeds, range(0, 8, step), strict=True):
        torch.manual_seed(seed)
        part = {name: value[start : start + step] for name, value in batch.items()}
        parts.append(model.encode_chunk(part))
    model.encode = lambda batch: tuple(torch.cat(part) for part in zip(*parts, strict=True))
    model.compute_losses(batch)["loss"].backward()
    assert found["encoder.image_tower.model.patch_embed.proj.weight"].abs().max() > 0
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_it_embeds_and_compares_the_whole_batch():
    assert isinstance(task(), EmbedsImagesAndText)
    assert isinstance(task(), GivesImageFeatures)
    assert task().image_features(IMAGES).shape == (8, 64)
    assert Siglip.whole_batch_loss
    batch = batch_of_eight() | {"text_id": torch.zeros(8, dtype=torch.int64)}
    torch.manual_seed(0)
    pair = task().compute_losses(batch)["loss"]
    torch.manual_seed(0)
    assert task(positives="caption").compute_losses(batch)["loss"] > pair + 10, "all 64 are positives at bias -10"
