"""Encoders with all that belongs to them, from other libraries' files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmfound.encoders import image_transform_of, load_encoder, picture_of, tokenizer_of
from mmfound.errors import ConfigError
from mmfound.runs.initial import load_initial
from mmfound.tasks.pretrained import Pretrained
from tests.interop.references import (
    CONTEXT,
    SIZES,
    model_config,
    open_clip_model,
    transformers_clip,
    transformers_siglip,
)
from tests.text.test_file_tokenizer import unigram

open_clip = pytest.importorskip("open_clip")
CAPTIONS = ["A photo of a cat.", "two words", "long " * 40]


def picture(height: int, width: int) -> Image.Image:
    """Smooth waves with an edge."""
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 9), np.cos(y / 7), np.sin((x + y) / 15)], axis=-1)
    return Image.fromarray((127 + 100 * waves * (x > y)[..., None]).astype(np.uint8))


def save_open_clip(folder: Path, config: dict[str, Any], preprocess: dict[str, Any]) -> Any:
    folder.mkdir(exist_ok=True)
    model = open_clip_model(config)
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    content = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    return model


@pytest.mark.parametrize("mode", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(150, 90), (80, 211)])
def test_open_clip_end_to_end(mode: str, interpolation: str, size: tuple[int, int], tmp_path: Path):
    preprocess = {"resize_mode": mode, "interpolation": interpolation, "mean": [0.4] * 3, "std": [0.3] * 3}
    config = model_config("ViT-B-32", vocab_size=49408)
    save_open_clip(tmp_path, config, preprocess)
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    loaded = load_encoder(tmp_path)
    assert loaded.tokenizer is not None
    tokens = open_clip.get_tokenizer(f"local-dir:{tmp_path}")(CAPTIONS)
    ours = loaded.tokenizer(CAPTIONS)
    assert torch.equal(ours["tokens"], tokens)
    image = picture(*size)
    array = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    taken = loaded.picture.transform()(array)[None].float() / 255
    theirs = transform(image)[None]
    assert ((taken - 0.4) / 0.3 - theirs).abs().max() < 3 / 255 / 0.3, "three of 255 levels"
    with torch.no_grad():
        texts = model.eval().encode_text(tokens, normalize=True)
        pictures = model.encode_image(theirs, normalize=True)
        torch.testing.assert_close(loaded.encoder.embed_text(**ours), texts, rtol=1e-4, atol=1e-5)
        cosine = (loaded.encoder.embed_image(taken) * pictures).sum()
    assert cosine > 0.999


def test_siglip_end_to_end(tmp_path: Path):
    transformers = pytest.importorskip("transformers")
    vocabulary = unigram().get_vocab_size()
    model = transformers_siglip(vocab_size=vocabulary)
    model.save_pretrained(tmp_path)
    transformers.SiglipImageProcessor(size={"height": 64, "width": 64}).save_pretrained(tmp_path)
    unigram().save(str(tmp_path / "tokenizer.json"))
    config = {"tokenizer_class": "SiglipTokenizer", "pad_token": "</s>", "eos_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    loaded = load_encoder(tmp_path)
    assert loaded.tokenizer is not None
    assert (loaded.picture.size, loaded.picture.fit) == (64, "squash")
    fast = unigram()
    fast.enable_padding(pad_id=1, pad_token="</s>", length=CONTEXT)
    fast.enable_truncation(CONTEXT)
    cleaned = ["a photo of a cat", "two words", "long " * 40]
    tokens = torch.tensor([encoding.ids for encoding in fast.encode_batch(cleaned)])
    with torch.no_grad():
        theirs = model.text_model(input_ids=tokens).pooler_output
    theirs = torch.nn.functional.normalize(theirs, dim=1)
    torch.testing.assert_close(loaded.encoder.embed_text(**loaded.tokenizer(CAPTIONS)), theirs, rtol=1e-4, atol=1e-5)


def test_a_single_file_has_clip_s_pictures_and_a_fingerprint(tmp_path: Path):
    state = open_clip_model(model_config("RN50")).state_dict()
    torch.save(state, tmp_path / "x.pt")
    loaded = load_encoder(tmp_path / "x.pt", activation="quick_gelu")
    assert (loaded.picture.size, loaded.picture.fit) == (64, "crop")
    assert loaded.tokenizer is None, "60 tokens are not CLIP's vocabulary"
    with pytest.raises(ConfigError, match="no tokenizer came along"):
        tokenizer_of(tmp_path / "x.pt", activation="quick_gelu")
    transform = image_transform_of(tmp_path / "x.pt", activation="quick_gelu")
    assert transform(torch.zeros(3, 70, 90, dtype=torch.uint8)).shape == (3, 64, 64)
    first = loaded.fingerprint
    state["logit_scale"] += 1
    torch.save(state, tmp_path / "x.pt")
    assert load_encoder(tmp_path / "x.pt", activation="quick_gelu").fingerprint != first
    assert len(first) == 64


def test_a_tokenizer_larger_than_the_text_tower_is_refused(tmp_path: Path):
    transformers_siglip(vocab_size=20).save_pretrained(tmp_path)
    unigram().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ConfigError, match="and the text tower only 20"):
        tokenizer_of(tmp_path)
    assert load_encoder(tmp_path).tokenizer is None


def test_a_run_begins_with_somebody_s_weights(tmp_path: Path):
    transformers_clip(SIZES["ViT-B-32"]).save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path).encoder
    fresh = load_encoder(tmp_path).encoder
    for parameter in fresh.parameters():
        torch.nn.init.zeros_(parameter)
    load_initial(Pretrained(fresh), tmp_path)
    torch.testing.assert_close(fresh.state_dict(), encoder.state_dict(), rtol=0, atol=0)


def test_a_recipe_with_another_activation_does_not_begin_with_them(tmp_path: Path):
    transformers_clip(SIZES["ViT-B-32"]).save_pretrained(tmp_path)
    other = load_encoder(tmp_path, activation="gelu", override=True).encoder
    with pytest.raises(ConfigError, match="trained with activation quick_gelu, and the recipe's tower has gelu"):
        load_initial(Pretrained(other), tmp_path)


def test_what_is_known_of_pictures_is_read_without_weights(tmp_path: Path):
    transformers_clip(SIZES["ViT-B-32"]).save_pretrained(tmp_path)
    assert picture_of(tmp_path).size == 64
