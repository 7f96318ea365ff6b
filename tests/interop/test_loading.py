"""Weights of other libraries, saved by them and loaded by us: same embeddings for every size that was released."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmfound import weights
from mmfound.encoders import load_encoder, picture_of
from mmfound.errors import ConfigError
from mmfound.models import DualEncoder
from mmfound.nn import NormalizePixels
from tests.interop import references
from tests.interop.references import CONTEXT, SIZES, VITS, assert_same, loaded, open_clip_model, save_open_clip, texts

pytest.importorskip("open_clip")
HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


@torch.no_grad()
def check(encoder: DualEncoder, reference: Any, size: int, normalize: Any = None, pad: int = 0) -> None:
    """Both towers in float64, on texts padded to the context and trimmed."""
    image = torch.rand(3, 3, size, size)
    encoder, reference = encoder.double(), reference.double()
    theirs = F.normalize(reference.encode_image((normalize or NormalizePixels())(image).double()), dim=1)
    assert_same(encoder.embed_image(image), theirs, 1e-6)
    tokens, mask = texts(pad=pad)
    theirs = F.normalize(reference.encode_text(tokens), dim=1)
    assert_same(encoder.embed_text(tokens, mask), theirs, 1e-6)
    assert_same(encoder.embed_text(tokens[:2, :9], mask[:2, :9]), theirs[:2], 1e-6)
    torch.testing.assert_close(encoder.logit_scale, reference.logit_scale.reshape(1))


@pytest.mark.parametrize("name", SIZES)
def test_every_size_equals_open_clip_without_being_named(name: str, tmp_path: Path):
    config = references.model_config(name)
    model = open_clip_model(config)
    torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}, "epoch": 1}, tmp_path / "x.pt")
    encoder = loaded(tmp_path / "x.pt", activation="quick_gelu")
    check(encoder, model, config["vision_cfg"]["image_size"])


@pytest.mark.parametrize("name", VITS)
def test_every_vit_equals_transformers(name: str, tmp_path: Path):
    model = references.transformers_clip(SIZES[name])
    model.save_pretrained(tmp_path, max_shard_size="300KB")
    assert (tmp_path / "model.safetensors.index.json").is_file(), "split, as large ones are"
    check(loaded(tmp_path), Transformers(model), SIZES[name]["image_size"])


class Transformers:
    """transformers' models under open_clip's method names."""

    def __init__(self, model: Any) -> None:
        self.model, self.logit_scale = model, model.logit_scale

    def double(self) -> "Transformers":
        return Transformers(self.model.double())

    def encode_image(self, image: Tensor) -> Tensor:
        pooled = self.model.vision_model(pixel_values=image).pooler_output
        return self.model.visual_projection(pooled) if hasattr(self.model, "visual_projection") else pooled

    def encode_text(self, tokens: Tensor) -> Tensor:
        pooled = self.model.text_model(input_ids=tokens).pooler_output
        return self.model.text_projection(pooled) if hasattr(self.model, "text_projection") else pooled


@pytest.mark.parametrize("image_size", [64, 72])
def test_siglip_equals_transformers(image_size: int, tmp_path: Path):
    model = references.transformers_siglip(image_size)  # 72 is no multiple of its patches of 16, as 384 of 14
    model.save_pretrained(tmp_path)
    encoder = loaded(tmp_path)
    check(encoder, Transformers(model), image_size, NormalizePixels(**HALF), pad=1)
    assert encoder.logit_bias is not None
    torch.testing.assert_close(encoder.logit_bias, model.logit_bias)


@pytest.fixture
def tiny_siglip(monkeypatch: pytest.MonkeyPatch) -> str:
    """A small SigLIP under a name of timm's, as open_clip needs one."""
    from timm.models import _registry, vision_transformer

    def build(pretrained: bool = False, **kwargs: Any) -> Any:
        sizes = {"patch_size": 16, "embed_dim": 128, "depth": 2, "num_heads": 2, "img_size": 64}
        arguments = {**sizes, "class_token": False, "global_pool": "map", **kwargs}
        return vision_transformer._create_vision_transformer("vit_base_patch16_siglip_224", **arguments)

    name = "vit_tiny_patch16_siglip_test"
    monkeypatch.setitem(_registry._model_entrypoints, name, build)
    config = _registry._model_pretrained_cfgs["vit_base_patch16_siglip_224.webli"]
    monkeypatch.setitem(_registry._model_pretrained_cfgs, name, config)
    return name


@pytest.mark.parametrize("tanh", [True, False])
def test_siglip_equals_open_clip(tiny_siglip: str, tanh: bool, tmp_path: Path):
    vision = {"timm_model_name": tiny_siglip, "timm_pool": "map", "timm_proj": "none", "image_size": 64}
    text = {"no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}}
    text |= {"act_kwargs": {"approximate": "tanh"}} if tanh else {}
    config = references.model_config("ViT-B-32", quick_gelu=False, **text)
    config |= {"embed_dim": 128, "vision_cfg": vision, "custom_text": True, "init_logit_bias": -10.0}
    model = open_clip_model(config)
    save_open_clip(tmp_path, model, config, {**HALF, "resize_mode": "squash"})
    encoder = loaded(tmp_path)
    check(encoder, model, 64, NormalizePixels(**HALF), pad=1)
    assert encoder.logit_bias is not None
    torch.testing.assert_close(encoder.logit_bias, model.logit_bias.reshape(1))
    assert picture_of(tmp_path).fit == "squash"


def test_open_clip_s_custom_text_equals(tmp_path: Path):
    config = references.model_config("ViT-B-32", quick_gelu=False) | {"custom_text": True}
    model = open_clip_model(config)
    assert "text.positional_embedding" in model.state_dict()
    save_open_clip(tmp_path, model, config)
    check(loaded(tmp_path), model, 64)


def test_timm_towers_of_open_clip_equal(tmp_path: Path):
    vision = {"timm_model_name": "resnet10t", "timm_pool": "avg", "timm_proj": "linear", "image_size": 64}
    config = references.model_config("ViT-B-32", quick_gelu=False) | {"vision_cfg": vision, "custom_text": True}
    model = open_clip_model(config)
    save_open_clip(tmp_path, model, config, HALF)
    check(loaded(tmp_path), model, 64, NormalizePixels(**HALF))


def test_heads_of_another_width_come_from_the_configuration_or_are_asked_for(tmp_path: Path):
    config = references.model_config("ViT-B-32", heads=4)
    config["vision_cfg"] |= {"width": 96, "head_width": 32}
    model = open_clip_model(config)
    save_open_clip(tmp_path, model, config)
    check(loaded(tmp_path), model, 64)
    (tmp_path / "open_clip_config.json").unlink()
    with pytest.raises(ConfigError, match="how many attention heads its tower of width 96 has; set image_heads"):
        loaded(tmp_path, activation="quick_gelu")
    check(loaded(tmp_path, activation="quick_gelu", image_heads=3, text_heads=4), model, 64)
    with pytest.raises(ConfigError, match="image_heads is 5, which does not divide"):
        loaded(tmp_path, activation="quick_gelu", image_heads=5)


def test_the_activation_is_asked_for_and_a_contradiction_is_refused(tmp_path: Path):
    config = references.model_config("ViT-B-32", quick_gelu=False)
    model = open_clip_model(config)
    torch.save(model.state_dict(), tmp_path / "x.pt")
    with pytest.raises(ConfigError, match=r"x\.pt does not say the activation.* set activation to quick_gelu"):
        loaded(tmp_path / "x.pt")
    check(loaded(tmp_path / "x.pt", activation="gelu"), model, 64)
    save_open_clip(tmp_path, model, config)
    with pytest.raises(ConfigError, match="says activation gelu, and quick_gelu was asked for"):
        loaded(tmp_path, activation="quick_gelu")
    other = loaded(tmp_path, activation="quick_gelu", override=True)
    with pytest.raises(AssertionError, match="not close"):
        check(other, model, 64)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("kind", ["archive", "state"])
@pytest.mark.parametrize("name", ["ViT-B-32", "RN50"])
def test_openai_s_own_files_need_nothing_said(name: str, kind: str, tmp_path: Path):
    import open_clip

    config = references.model_config(name)
    model = open_clip_model(config)
    open_clip.model.convert_weights_to_lp(model, torch.float16)
    half = {key: value.clone() for key, value in model.state_dict().items()}
    for key, value in (("input_resolution", 64), ("context_length", CONTEXT), ("vocab_size", 60)):
        half[key] = torch.tensor(value)
    if kind == "state":
        torch.save(half, tmp_path / "x.pt")
    else:
        torch.jit.script(Holder(half)).save(tmp_path / "x.pt")
    encoder = loaded(tmp_path / "x.pt")
    assert encoder.image_tower.model.patch_embed.proj.weight.dtype == torch.float32 if "ViT" in name else True
    check(encoder, model, config["vision_cfg"]["image_size"])
    with pytest.raises(ConfigError, match="says activation quick_gelu, and gelu was asked for"):
        loaded(tmp_path / "x.pt", activation="gelu")


class Holder(torch.nn.Module):
    """Modules under the dotted names of a state dict."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        for name, value in state.items():
            if "." not in name:
                self.register_buffer(name, value)
        for head in dict.fromkeys(name.partition(".")[0] for name in state if "." in name):
            inner = {name.partition(".")[2]: value for name, value in state.items() if name.startswith(f"{head}.")}
            self.add_module(head, Holder(inner))

    def forward(self) -> int:
        return 0


@pytest.mark.parametrize(("name", "size"), [("ViT-B-32", 96), ("ViT-L-14-336", 42), ("RN50", 96)])
def test_image_positions_are_resized_as_open_clip_does(name: str, size: int, tmp_path: Path):
    """open_clip resizes those of ViTs; for attention pools the same is done here."""
    from open_clip.model import resize_pos_embed

    config = references.model_config(name)
    model = open_clip_model(config)
    save_open_clip(tmp_path, model, config)
    config["vision_cfg"] |= {"image_size": size}
    larger = open_clip_model(config)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    if name.startswith("ViT"):
        resize_pos_embed(state, larger)
    else:
        positions = state["visual.attnpool.positional_embedding"]
        old, new = config["vision_cfg"]["image_size"], size // 32
        grid = positions[1:].T.reshape(1, -1, 2, 2)
        assert old == size
        grid = F.interpolate(grid, size=(new, new), mode="bicubic", antialias=True)
        resized = torch.cat([positions[:1], grid.flatten(2)[0].T])
        state["visual.attnpool.positional_embedding"] = resized
    larger.load_state_dict(state)
    check(loaded(tmp_path, image_size=size), larger, size)
    assert picture_of(tmp_path, image_size=size).size == size


def test_texts_are_cut_and_stretched_only_where_asked(tmp_path: Path):
    config = references.model_config("ViT-B-32")
    model = open_clip_model(config)
    save_open_clip(tmp_path, model, config)
    own = model.positional_embedding
    shorter = loaded(tmp_path, context=7).text_tower.positional_embedding
    longer = loaded(tmp_path, context=32).text_tower.positional_embedding
    assert torch.equal(shorter, own[:7])
    assert longer.shape == (32, 128)
    torch.testing.assert_close(longer[1::2][:-1], 0.75 * own[:-1] + 0.25 * own[1:])


def test_normalisation_and_fit_come_from_the_configuration(tmp_path: Path):
    import transformers

    config = references.model_config("ViT-B-32")
    model = open_clip_model(config)
    preprocess = {**HALF, "resize_mode": "squash", "interpolation": "bilinear"}
    save_open_clip(tmp_path / "oc", model, config, preprocess)
    check(loaded(tmp_path / "oc"), model, 64, NormalizePixels(**HALF))
    picture = picture_of(tmp_path / "oc")
    assert (picture.size, picture.fit, picture.interpolation) == (64, "squash", "bilinear")
    save_open_clip(tmp_path / "longest", model, config, {"resize_mode": "longest"})
    with pytest.raises(ConfigError, match="resize_mode 'longest'"):
        loaded(tmp_path / "longest")
    references.transformers_siglip().save_pretrained(tmp_path / "hf")
    processor = transformers.SiglipImageProcessor(size={"height": 64, "width": 64}, image_mean=[0.1] * 3)
    processor.save_pretrained(tmp_path / "hf")
    described = weights.describe(tmp_path / "hf")["image"]
    assert (described["fit"], described["mean"], described["std"]) == ("squash", [0.1] * 3, [0.5] * 3)


def test_a_part_is_loaded_alone(tmp_path: Path):
    model = references.transformers_clip(SIZES["ViT-B-32"])
    model.save_pretrained(tmp_path)
    tower = weights.pretrained(tmp_path, part="image_tower")
    image = torch.rand(2, 3, 64, 64)
    theirs = Transformers(model).encode_image(NormalizePixels()(image))
    assert_same(tower(image), theirs)


def test_what_was_loaded_can_be_exported_and_comes_back(tmp_path: Path):
    references.transformers_siglip().save_pretrained(tmp_path / "hf")
    encoder, described = loaded(tmp_path / "hf"), weights.describe(tmp_path / "hf")
    weights.export(encoder, described, tmp_path / "ours", image=described["image"])
    again = load_encoder(tmp_path / "ours")
    torch.testing.assert_close(again.encoder.state_dict(), encoder.state_dict(), rtol=0, atol=0)
    assert again.picture == picture_of(tmp_path / "hf")
    tokens, mask = texts(pad=0)
    torch.testing.assert_close(again.encoder.embed_text(tokens, mask), encoder.embed_text(tokens, mask))


def test_a_recipe_s_pretrained_is_written_out_with_what_was_said(tmp_path: Path):
    from mmfound.building import expand

    torch.save(open_clip_model(references.model_config("ViT-B-32")).state_dict(), tmp_path / "x.pt")
    arguments = {"folder": str(tmp_path / "x.pt"), "part": "text_tower", "activation": "gelu"}
    written = expand({"class_path": "mmfound.weights.pretrained", "init_args": arguments}, weights.describe)
    assert written["class_path"] == "mmfound.models.TextTransformer"
    assert written["init_args"]["activation"] == "gelu"


def test_describing_reads_no_weights(tmp_path: Path):
    model = references.transformers_clip(SIZES["ViT-B-32"])
    model.save_pretrained(tmp_path)
    before = weights.describe(tmp_path)
    assert before["init_args"]["image_tower"]["init_args"]["options"]["num_heads"] == 2
