"""Every format that is written is loaded by its library, with equal outputs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfound import weights
from mmfound.cli import main
from mmfound.encoders import load_encoder, tokenizer_of
from mmfound.errors import ConfigError
from mmfound.interop import exports
from mmfound.models import Cbow, ClipResNet, ConvTower, DualEncoder, SiglipText, TextTransformer, TimmTower
from mmfound.nn import NormalizePixels
from mmfound.text import ClipBpe, FileTokenizer, TrainedBpe
from mmfound.text.tokenizer import Tokenizer
from tests.interop.references import CONTEXT, VOCABULARY, assert_same, randomize, texts
from tests.text.test_file_tokenizer import unigram

open_clip = pytest.importorskip("open_clip")
HALF = (0.5, 0.5, 0.5)


def vit(activation: str = "quick_gelu", heads: int = 2, mean: Any = None, **options: Any) -> dict[str, Any]:
    options = {"embed_dim": 128, "depth": 2, "num_heads": heads, "act_layer": activation, **options}
    init = {"name": "vit_base_patch32_clip_224", "embed_dim": 32, "image_size": 64, "options": options}
    init |= {"mean": mean, "std": mean} if mean else {}
    return {"class_path": "mmfound.models.TimmTower", "init_args": init}


def resnet() -> dict[str, Any]:
    init = {"depths": [1, 2, 1, 1], "width": 16, "embed_dim": 32, "image_size": 64}
    return {"class_path": "mmfound.models.ClipResNet", "init_args": init}


def text(activation: str = "quick_gelu", vocab_size: int = VOCABULARY, heads: int = 2) -> dict[str, Any]:
    init = {"vocab_size": vocab_size, "context": CONTEXT, "width": 128, "depth": 2, "heads": heads, "embed_dim": 32}
    return {"class_path": "mmfound.models.TextTransformer", "init_args": init | {"activation": activation}}


def siglip_text() -> dict[str, Any]:
    described = text("gelu_tanh")
    return {"class_path": "mmfound.models.SiglipText", "init_args": described["init_args"] | {"mlp_width": 200}}


CLASSES = {
    f"mmfound.models.{kind.__name__}": kind
    for kind in (Cbow, ClipResNet, ConvTower, DualEncoder, SiglipText, TextTransformer, TimmTower)
}


def built(config: dict[str, Any]) -> Any:
    return CLASSES[config["class_path"]](**config["init_args"])


def encoder_of(image: dict[str, Any], text_tower: dict[str, Any], bias: float | None = None) -> tuple[Any, Any]:
    """A dual encoder with random weights that matter, and its description."""
    encoder = DualEncoder(built(image), built(text_tower), init_bias=bias)
    randomize(encoder)
    init = {"image_tower": image, "text_tower": text_tower} | ({"init_bias": bias} if bias is not None else {})
    if hasattr(encoder.image_tower, "model") and any(isinstance(m, nn.BatchNorm2d) for m in encoder.modules()):
        for module in encoder.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        encoder.train().embed_image(torch.rand(8, 3, 64, 64))
    return encoder.eval(), {"class_path": "mmfound.models.DualEncoder", "init_args": init}


def pictures(mean: Any = None, fit: str = "crop") -> dict[str, Any]:
    return {"size": 64, "fit": fit, **({"mean": list(mean), "std": list(mean)} if mean else {})}


@torch.no_grad()
def check(encoder: Any, model: Any, tokens: Tensor, mask: Tensor, mean: Any = None, tolerance: float = 1e-5) -> None:
    image = torch.rand(3, 3, 64, 64)
    pixels = (NormalizePixels(mean, mean) if mean else NormalizePixels())(image)
    theirs = F.normalize(model.encode_image(pixels), dim=1)
    assert_same(theirs, encoder.embed_image(image), tolerance)
    theirs = F.normalize(model.encode_text(tokens), dim=1)
    assert_same(theirs, encoder.embed_text(tokens, mask), tolerance)
    torch.testing.assert_close(model.logit_scale.reshape(1), encoder.logit_scale)


OPEN_CLIP = {
    "vit": (vit(), text(), None),
    "gelu": (vit("gelu", mean=HALF), text("gelu"), HALF),
    "gelu_tanh": (vit("gelu_tanh"), text("gelu_tanh"), None),
    "heads": (vit(heads=4, mlp_ratio=3.0), text(heads=8), None),
    "resnet": (resnet(), text(), None),
    "timm": (
        {"class_path": "mmfound.models.TimmTower", "init_args": {"name": "resnet10t", "embed_dim": 32}},
        text("gelu"),
        None,
    ),
    "timm-siglip-text": (
        {"class_path": "mmfound.models.TimmTower", "init_args": {"name": "resnet10t", "embed_dim": 32}},
        siglip_text(),
        None,
    ),
    "siglip-text": (vit("gelu_tanh"), siglip_text(), None),
}


@pytest.mark.parametrize("kind", OPEN_CLIP)
def test_open_clip_loads_the_folder_with_equal_outputs(kind: str, tmp_path: Path):
    image, text_tower, mean = OPEN_CLIP[kind]
    siglip = text_tower["class_path"].endswith("SiglipText")
    encoder, described = encoder_of(image, text_tower, bias=-3.0 if siglip else None)
    exports.write(encoder, {**described, "image": pictures(mean, "squash")}, None, "open_clip", tmp_path / "x")
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'x'}")
    tokens, mask = texts(pad=1 if siglip else 0)
    check(encoder, model.eval(), tokens, mask, mean)
    assert "size=(64, 64)" in str(transform) or kind.startswith("timm"), "squashed"
    if siglip:
        torch.testing.assert_close(model.logit_bias.reshape(1), encoder.logit_bias)
    again = load_encoder(tmp_path / "x")
    torch.testing.assert_close(again.encoder.state_dict(), encoder.state_dict(), rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("tower", [vit, resnet])
def test_openai_s_file_equals_after_rounding(tower: Any, tmp_path: Path):
    encoder, described = encoder_of(tower(), text())
    exports.write(encoder, described, None, "openai", tmp_path / "x.pt")
    state = torch.load(tmp_path / "x.pt", weights_only=True)
    assert state["transformer.resblocks.0.attn.in_proj_weight"].dtype == torch.float16
    assert state["ln_final.weight"].dtype == torch.float32
    model = open_clip.load_openai_model(str(tmp_path / "x.pt"), precision="fp32", device="cpu")
    again = load_encoder(tmp_path / "x.pt").encoder
    check(again, model.eval(), *texts())
    image = torch.rand(3, 3, 64, 64)
    assert not torch.equal(again.embed_image(image), encoder.embed_image(image)), "rounded"
    torch.testing.assert_close(again.embed_image(image), encoder.embed_image(image), rtol=0.02, atol=0.004)
    tokens, mask = texts()
    torch.testing.assert_close(again.embed_text(tokens, mask), encoder.embed_text(tokens, mask), rtol=0.02, atol=0.004)


class Transformers:
    """CLIPModel under open_clip's method names."""

    def __init__(self, model: Any) -> None:
        self.model, self.logit_scale = model, model.logit_scale

    def encode_image(self, image: Tensor) -> Tensor:
        return self.model.visual_projection(self.model.vision_model(pixel_values=image).pooler_output)

    def encode_text(self, tokens: Tensor) -> Tensor:
        return self.model.text_projection(self.model.text_model(input_ids=tokens).pooler_output)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu", "gelu_tanh"])
def test_transformers_load_the_folder_with_equal_outputs(activation: str, tmp_path: Path):
    transformers = pytest.importorskip("transformers")
    encoder, described = encoder_of(vit(activation, heads=4, mean=HALF), text(activation))
    exports.write(encoder, {**described, "image": pictures(HALF)}, None, "hf", tmp_path / "x")
    model, report = transformers.CLIPModel.from_pretrained(tmp_path / "x", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    check(encoder, Transformers(model.eval()), *texts(), mean=HALF)
    processor = transformers.CLIPImageProcessor.from_pretrained(tmp_path / "x")
    assert (tuple(processor.image_mean), processor.size["shortest_edge"]) == (HALF, 64)
    again = load_encoder(tmp_path / "x")
    torch.testing.assert_close(again.encoder.state_dict(), encoder.state_dict(), rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:.*")
def test_the_tokenizer_of_a_transformers_folder_gives_the_same_ids(tmp_path: Path):
    transformers = pytest.importorskip("transformers")
    described = text(vocab_size=49408)
    encoder, config = encoder_of(vit(), described)
    tokenizer = ClipBpe(context=CONTEXT)
    exports.write(encoder, config, tokenizer, "hf", tmp_path / "x")
    captions = ["A photo of a cat.", "don't panic: 42 cafés!", "word " * 40, ""]
    ours, again = tokenizer(captions), tokenizer_of(tmp_path / "x")(captions)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "x")
    for caption, ids, mask in zip(captions, ours["tokens"], ours["token_mask"], strict=True):
        assert theirs(caption, truncation=True, max_length=CONTEXT).input_ids == ids[mask].tolist()
    assert torch.equal(ours["tokens"], again["tokens"])


def test_an_end_token_that_is_not_the_largest_is_said_to_open_clip(tmp_path: Path):
    tokenizer = TrainedBpe(300, CONTEXT)
    tokenizer.prepare(lambda: ["a red ball", "a blue box"] * 20, tmp_path / "run")
    encoder, described = encoder_of(vit(), text(vocab_size=300))
    exports.write(encoder, described, tokenizer, "open_clip", tmp_path / "x")
    model = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'x'}")[0]
    batch = tokenizer(["a red ball", "box", "blue " * 9])
    tokens = F.pad(batch["tokens"], (0, CONTEXT - batch["tokens"].shape[1]))
    mask = F.pad(batch["token_mask"], (0, CONTEXT - batch["tokens"].shape[1]))
    check(encoder, model.eval(), tokens, mask)
    for target in ("openai", "hf"):
        with pytest.raises(ConfigError, match="largest id, and TrainedBpe ends texts otherwise"):
            exports.write(encoder, described, tokenizer, target, tmp_path / target)  # pyright: ignore


@pytest.mark.filterwarnings("ignore:.*")
def test_a_tokenizer_of_a_file_goes_along_to_open_clip(tmp_path: Path):
    pytest.importorskip("transformers")
    model = unigram()
    tokenizer = FileTokenizer(json.loads(model.to_str()), CONTEXT, "canonicalize")
    tower = siglip_text()
    tower["init_args"]["vocab_size"] = tokenizer.vocab_size
    encoder, described = encoder_of(vit("gelu_tanh"), tower, bias=-10.0)
    exports.write(encoder, described, tokenizer, "open_clip", tmp_path / "x")
    captions = ["A photo, of a cat!", "two_red boxes", "cat " * 30]
    theirs = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'x'}")(captions)
    ours = tokenizer(captions)
    assert torch.equal(ours["tokens"].masked_fill(~ours["token_mask"], 1), theirs)
    assert torch.equal(tokenizer_of(tmp_path / "x")(captions)["tokens"], ours["tokens"])


CONV = {"class_path": "mmfound.models.ConvTower", "init_args": {"width": 8, "embed_dim": 32}}
CBOW = {"class_path": "mmfound.models.Cbow", "init_args": {"vocab_size": 60, "width": 16, "embed_dim": 32}}
SWIN = {"name": "swin_tiny_patch4_window7_224", "embed_dim": 32, "image_size": 64, "options": {"depths": [1, 1, 1, 1]}}


@pytest.mark.parametrize(
    ("target", "image", "text_tower", "reason"),
    [
        ("openai", vit("gelu"), text("gelu"), "all of OpenAI's weights use quick_gelu, and this model gelu"),
        ("openai", vit(), text("gelu"), "use quick_gelu"),
        ("openai", vit(heads=4), text(), "heads are 64 wide, and a tower of width 128 has 4"),
        ("openai", resnet(), text(heads=4), "heads are 64 wide"),
        ("openai", vit(mlp_ratio=3), text(), "MLPs are 4 times"),
        ("openai", vit(), siglip_text(), "this model has TimmTower and SiglipText"),
        ("hf", resnet(), text(), "CLIPModel has no ResNet"),
        ("hf", CONV, text(), "this model has ConvTower"),
        ("open_clip", vit(), CBOW, "no text tower like Cbow"),
        ("openai", vit(), CBOW, "no text tower like Cbow"),
        ("hf", vit(), CBOW, "no text tower like Cbow"),
        ("open_clip", CONV, text(), "no image tower like ConvTower"),
        ("open_clip", vit("gelu"), text("quick_gelu"), "one activation for both towers"),
        ("open_clip", {"class_path": "mmfound.models.TimmTower", "init_args": SWIN}, text(), "by its name alone"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_with_the_reason(
    target: Any, image: dict[str, Any], text_tower: dict[str, Any], reason: str, tmp_path: Path
):
    encoder, described = encoder_of(image, text_tower)
    with pytest.raises(ConfigError, match=reason):
        exports.write(encoder, described, None, target, tmp_path / "x")
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_openai_has_no_place_for_other_pictures(tmp_path: Path):
    encoder, described = encoder_of(vit(), text())
    for image in (pictures(HALF), pictures(fit="squash")):
        with pytest.raises(ConfigError, match="CLIP's mean, std and crop"):
            exports.write(encoder, {**described, "image": image}, None, "openai", tmp_path / "x.pt")


class TestCommand:
    @pytest.fixture
    def ours(self, tmp_path: Path) -> Path:
        encoder, described = encoder_of(vit(), text(vocab_size=49408))
        saved: Tokenizer = ClipBpe(context=CONTEXT)
        weights.export(encoder, described, tmp_path / "ours", tokenizer=saved, image={"size": 64})
        return tmp_path / "ours"

    @pytest.mark.parametrize("target", ["openai", "open_clip", "hf"])
    def test_to_a_format_and_back(self, ours: Path, target: str, tmp_path: Path, capsys: Any):
        there, back = tmp_path / ("x.pt" if target == "openai" else "x"), tmp_path / "back"
        assert main(["export", str(ours), "--format", target, "--to", str(there)]) == 0
        assert main(["export", str(there), "--to", str(back)]) == 0
        assert f"written to {there} for {target}" in capsys.readouterr().out
        before, after = load_encoder(ours), load_encoder(back)
        image = torch.rand(2, 3, 64, 64)
        tolerance = 0.004 if target == "openai" else 0
        ours_image, again = before.encoder.embed_image(image), after.encoder.embed_image(image)
        torch.testing.assert_close(again, ours_image, rtol=0, atol=tolerance or 1e-6)
        assert after.tokenizer is not None
        assert torch.equal(after.tokenizer(["a cat"])["tokens"], ClipBpe(context=CONTEXT)(["a cat"])["tokens"])
        assert after.picture == before.picture

    def test_mistakes(self, ours: Path, tmp_path: Path, capsys: Any):
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "thesis.txt").write_text("years of work")
        (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04")
        to = str(tmp_path / "x")
        for arguments, code, says in [
            ([str(ours), "--format", "onnx", "--to", to], 2, "invalid choice: 'onnx'"),
            ([str(ours)], 2, "--to"),
            ([str(ours), "--format", "hf", "--to", str(tmp_path / "full")], 2, "is there already"),
            ([str(ours), "--to", str(tmp_path / "full")], 2, "is there already"),
            ([str(tmp_path / "nothing"), "--to", to], 2, "no exported module in"),
            ([str(tmp_path / "cut.pt"), "--to", to], 3, "is damaged"),
            ([str(ours), "--activation", "gelu", "--to", to], 2, "is for weights of other libraries"),
        ]:
            assert main(["export", *arguments]) == code
            error = capsys.readouterr().err
            assert says in error
            assert error.startswith("error: ")
            assert error.count("\n") == 1
        assert main(["export"]) == 0
        assert json.dumps("usage: mmfound export")[1:-1] in capsys.readouterr().out
