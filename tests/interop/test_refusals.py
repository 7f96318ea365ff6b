"""Weights of other libraries that are damaged, incomplete or of something else: told, never loaded half."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mmfound import weights
from mmfound.errors import ConfigError, DataError
from tests.interop import references
from tests.interop.references import SIZES, loaded, open_clip_model, save_open_clip

pytest.importorskip("open_clip")


def test_another_architecture_is_named_with_what_was_found(tmp_path: Path):
    torch.save({"encoder.weight": torch.ones(2, 3)}, tmp_path / "x.pt")
    with pytest.raises(ConfigError, match=r"another architecture: expected .* found encoder\.weight \[2, 3\]"):
        loaded(tmp_path / "x.pt")


def test_a_missing_and_a_strange_weight_are_named(tmp_path: Path):
    state = open_clip_model(references.model_config("ViT-B-32")).state_dict()
    state["visual.extra"] = torch.ones(3)
    del state["visual.ln_post.bias"]
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(ConfigError, match=r"lacks image_tower\.model\.norm\.bias, has also .*extra \(1 missing"):
        loaded(tmp_path / "x.pt", activation="gelu")


def test_another_shape_than_the_configuration_says_is_named(tmp_path: Path):
    config = references.model_config("ViT-B-32")
    model = open_clip_model(config)
    config["vision_cfg"] = {**config["vision_cfg"], "image_size": 96}
    save_open_clip(tmp_path, model, config)
    with pytest.raises(ConfigError, match=r"pos_embed as \[1, 5, 128\], not \[1, 10, 128\]"):
        loaded(tmp_path)


def test_an_empty_text_tower(tmp_path: Path):
    state = open_clip_model(references.model_config("ViT-B-32")).state_dict()
    torch.save({k: v for k, v in state.items() if k.startswith("visual")}, tmp_path / "x.pt")
    with pytest.raises(ConfigError, match=r"expected is text_tower\.token_embedding\.weight"):
        loaded(tmp_path / "x.pt", activation="gelu")


def test_a_folder_of_other_things(tmp_path: Path):
    (tmp_path / "readme.txt").write_text("x")
    with pytest.raises(ConfigError, match="no exported module in"):
        loaded(tmp_path)


def test_several_files_and_none_that_is_known(tmp_path: Path):
    for name in ("a.pt", "b.pt"):
        torch.save({"x": torch.ones(1)}, tmp_path / name)
    with pytest.raises(ConfigError, match=r"of others a\.pt, b\.pt; name the file itself"):
        loaded(tmp_path)


def test_a_missing_part_of_a_split_checkpoint(tmp_path: Path):
    references.transformers_clip(SIZES["ViT-B-32"]).save_pretrained(tmp_path, max_shard_size="300KB")
    next(tmp_path.glob("model-00002*")).unlink()
    with pytest.raises(DataError, match="lacks model-00002"):
        loaded(tmp_path)


def test_a_part_elsewhere(tmp_path: Path):
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"x": "../x.safetensors"}}')
    with pytest.raises(ConfigError, match="names .*x.safetensors"):
        loaded(tmp_path)


def test_a_damaged_configuration(tmp_path: Path):
    references.transformers_clip(SIZES["ViT-B-32"]).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json is damaged"):
        loaded(tmp_path)


def test_settings_that_do_not_show_in_the_weights(tmp_path: Path):
    config = references.model_config("ViT-B-32")
    model = open_clip_model(config)
    config["vision_cfg"]["pool_type"] = "avg"
    save_open_clip(tmp_path, model, config)
    with pytest.raises(ConfigError, match="vision_cfg sets pool_type: avg"):
        loaded(tmp_path)
    config["vision_cfg"]["pool_type"] = "tok"
    config["text_cfg"]["no_causal_mask"] = True
    save_open_clip(tmp_path, model, config)
    with pytest.raises(ConfigError, match="no_causal_mask True"):
        loaded(tmp_path)
    config["text_cfg"] |= {"no_causal_mask": False, "norm_kwargs": {"eps": 1e-6}}
    save_open_clip(tmp_path, model, config)
    with pytest.raises(ConfigError, match="text_cfg has layer norms with eps 1e-06"):
        loaded(tmp_path)


def test_another_eps_of_transformers(tmp_path: Path):
    references.transformers_clip(SIZES["ViT-B-32"]).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["vision_config"]["layer_norm_eps"] = 1e-3
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="vision_config has layer norms with eps 0.001"):
        loaded(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"vision_config": {"num_attention_heads": "many"}},
        {"vision_config": [1]},
        {"text_config": {"hidden_act": "relu"}},
        {"vision_config": {"image_size": 7}},
    ],
)
def test_a_configuration_of_nonsense(wrong: dict[str, Any], tmp_path: Path):
    references.transformers_clip(SIZES["ViT-B-32"]).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | wrong))
    with pytest.raises(ConfigError, match=str(tmp_path)):
        loaded(tmp_path)


def test_weights_of_strange_shapes(tmp_path: Path):
    state = open_clip_model(references.model_config("ViT-B-32")).state_dict()
    for name in ("visual.conv1.weight", "visual.positional_embedding", "token_embedding.weight", "logit_scale"):
        torch.save(state | {name: torch.ones(2, 2, 2)}, tmp_path / "x.pt")
        with pytest.raises(ConfigError, match=r"x\.pt"):
            loaded(tmp_path / "x.pt", activation="gelu")


def test_options_for_foreign_weights_on_an_export_of_ours(tmp_path: Path):
    references.transformers_siglip().save_pretrained(tmp_path / "hf")
    described = weights.describe(tmp_path / "hf")
    weights.export(loaded(tmp_path / "hf"), described, tmp_path / "ours")
    with pytest.raises(ConfigError, match="image_size is for weights of other libraries"):
        loaded(tmp_path / "ours", image_size=96)
