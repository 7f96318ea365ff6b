"""TimmTower, ConvTower and DualEncoder."""

import math

import pytest
import torch
from torch import nn

from mmfound.abilities import EmbedsImagesAndText
from mmfound.errors import ConfigError
from mmfound.models import Cbow, ConvTower, DualEncoder, TimmTower
from tests.models.towers import tiny_resnet, tiny_vit


@pytest.mark.parametrize(
    ("tower", "grid"),
    [(tiny_vit(), 4), (tiny_resnet(), 4), (ConvTower(8, 32), 16), (TimmTower("resnet10t", 32), 4)],
    ids=["vit", "clip-resnet", "conv", "other-timm"],
)
def test_towers_embed_images_and_give_their_grid(tower: nn.Module, grid: int):
    image = torch.rand(2, 3, 64, 64)
    assert tower(image).shape == (2, 32)
    assert tower.tokens(image).shape == (2, grid, tower.width)


def test_conv_tower_takes_odd_sizes():
    assert ConvTower(8, 32)(torch.rand(2, 3, 37, 51)).shape == (2, 32)


def test_tokens_of_channels_last_models_are_their_grid():
    tower = TimmTower("swin_tiny_patch4_window7_224", 32, image_size=64, options={"depths": (1, 1, 1, 1)})
    assert tower.tokens(torch.rand(1, 3, 64, 64)).shape == (1, 4, tower.width)


def test_projection_has_a_bias_only_behind_attention_pooling():
    assert tiny_vit().model.head.bias is None
    assert TimmTower("resnet10t", 32).model.fc.bias is None
    assert tiny_resnet().model.head.proj.bias is not None


def test_initial_weights_are_openai_s():
    vit = TimmTower("vit_base_patch16_clip_quickgelu_224", 128, image_size=64, options={"depth": 1})
    for parameter in (vit.model.cls_token, vit.model.pos_embed, vit.model.head.weight):
        assert parameter.std().item() == pytest.approx(768**-0.5, rel=0.1)
    resnet = tiny_resnet().model
    for parameter in (resnet.head.pos_embed, resnet.head.q.weight, resnet.head.proj.weight):
        assert parameter.std().item() == pytest.approx(512**-0.5, rel=0.1)
    last_norms = [block.conv3_1x1.bn.weight for stage in resnet.stages for block in stage]
    assert all((weight == 0).all() for weight in last_norms)


@pytest.mark.parametrize("tower", [tiny_vit(), tiny_resnet(), ConvTower(8, 32)], ids=["vit", "resnet", "conv"])
def test_bfloat16_weights_take_float32_images(tower: nn.Module):
    image = torch.rand(2, 3, 64, 64)
    tower.eval()
    expected = tower(image)
    embedded = tower.bfloat16()(image)
    assert embedded.dtype == torch.bfloat16
    assert torch.cosine_similarity(embedded.float(), expected).min() > 0.98
    tower.float()


def test_an_unknown_timm_model_names_the_nearest():
    with pytest.raises(ConfigError, match=r"no model 'resnet50_clp'.*resnet50_clip"):
        TimmTower("resnet50_clp", 32)


def test_patch_drop_leaves_patches_out_in_training_only():
    tower = TimmTower("vit_base_patch16_clip_quickgelu_224", 8, image_size=64, patch_drop=0.5, options={"depth": 1})
    image = torch.rand(2, 3, 64, 64)
    assert tower.tokens(image).shape[1] == 8
    assert tower.eval().tokens(image).shape[1] == 16


def test_dual_encoder_gives_float32_of_unit_length_under_bfloat16_autocast():
    encoder = DualEncoder(ConvTower(8, 32), Cbow(20, 16, 32))
    assert isinstance(encoder, EmbedsImagesAndText)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        image_BE = encoder.embed_image(torch.rand(2, 3, 32, 32))
        text_BE = encoder.embed_text(torch.tensor([[1, 2], [3, 4]]), torch.ones(2, 2, dtype=torch.bool))
    for embedded_BE in (image_BE, text_BE):
        assert embedded_BE.dtype == torch.float32
        torch.testing.assert_close(embedded_BE.norm(dim=1), torch.ones(2))


def test_logit_scale_starts_at_the_inverse_temperature_with_one_dimension():
    encoder = DualEncoder(nn.Identity(), nn.Identity())
    assert encoder.logit_scale.shape == (1,)
    assert encoder.logit_scale.item() == pytest.approx(math.log(1 / 0.07))


@pytest.mark.parametrize("tower", [tiny_vit(), ConvTower(8, 32), TimmTower("resnet10t", 32)])
def test_features_are_what_the_projection_is_applied_to(tower: nn.Module):
    tower.eval()
    image = torch.rand(2, 3, 64, 64)
    features = tower.features(image)
    head = tower.head if isinstance(tower, ConvTower) else tower.model.get_classifier()
    assert features.shape == (2, tower.width)
    assert not torch.allclose(features[0], features[1])
    torch.testing.assert_close(head(features), tower(image))


def test_features_of_attention_pooling_are_before_its_last_layer():
    tower = tiny_resnet().eval()
    image = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(tower.model.head.proj(tower.features(image)), tower(image))


def test_a_tower_without_features_is_refused_by_name():
    class Plain(nn.Module):
        pass

    with pytest.raises(ConfigError, match="Plain has no features"):
        DualEncoder(Plain(), Plain()).image_features(torch.rand(1, 3, 8, 8))
