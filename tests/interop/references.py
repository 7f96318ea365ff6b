"""Models of other libraries with the structure of each that was released, shrunken, and random weights that matter."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mmfound import weights
from mmfound.models import DualEncoder

CONTEXT, VOCABULARY = 16, 60
# Layers and heads as released; widths are multiples of 64 with heads 64 wide, depths are cut where they only cost time.
VITS = {
    "ViT-B-32": {"layers": 3, "width": 128, "patch_size": 32, "image_size": 64},
    "ViT-B-16": {"layers": 3, "width": 192, "patch_size": 16, "image_size": 48},
    "ViT-L-14": {"layers": 4, "width": 128, "patch_size": 14, "image_size": 42},
    "ViT-L-14-336": {"layers": 4, "width": 128, "patch_size": 14, "image_size": 70},
}
RESNETS = {
    "RN50": {"layers": [3, 4, 6, 3], "width": 8, "image_size": 64},
    "RN101": {"layers": [3, 4, 23, 3], "width": 8, "image_size": 64},
    "RN50x4": {"layers": [4, 6, 10, 6], "width": 16, "image_size": 96},
    "RN50x16": {"layers": [6, 8, 18, 8], "width": 24, "image_size": 64},
    "RN50x64": {"layers": [3, 15, 36, 10], "width": 16, "image_size": 64},
}
SIZES = VITS | RESNETS
TEXT = {"context_length": CONTEXT, "vocab_size": VOCABULARY, "width": 128, "heads": 2, "layers": 3}


def model_config(name: str, quick_gelu: bool = True, **text: Any) -> dict[str, Any]:
    """open_clip's `model_cfg` of a size."""
    return {
        "embed_dim": 32,
        "vision_cfg": dict(SIZES[name]),
        "text_cfg": {**TEXT, **text},
        "quick_gelu": quick_gelu,
    }


def open_clip_model(config: dict[str, Any]) -> Any:
    """A CLIP of open_clip with random weights."""
    import open_clip

    kind = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    model = kind(**{key: value for key, value in config.items() if key != "custom_text"})
    randomize(model)
    size = config["vision_cfg"]["image_size"]
    measure_batch_statistics(model, torch.randn(8, 3, size, size))
    return model.eval()


def transformers_clip(vision: dict[str, Any], activation: str = "quick_gelu", **text: Any) -> Any:
    """transformers' CLIPModel of the same structure."""
    import transformers

    text_config = {"vocab_size": VOCABULARY, "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 3}
    text_config |= {"num_attention_heads": 2, "max_position_embeddings": CONTEXT, "hidden_act": activation}
    text_config |= {"eos_token_id": VOCABULARY - 1, "bos_token_id": 1, "pad_token_id": 0, **text}
    width = vision["width"]
    vision_config = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": vision["layers"]}
    vision_config |= {"num_attention_heads": vision.get("heads", width // 64), "hidden_act": activation}
    vision_config |= {"image_size": vision["image_size"], "patch_size": vision["patch_size"]}
    config = transformers.CLIPConfig(text_config=text_config, vision_config=vision_config, projection_dim=32)
    model = transformers.CLIPModel(config).eval()
    randomize(model)
    return model


def transformers_siglip(image_size: int = 64, patch_size: int = 16, vocab_size: int = VOCABULARY) -> Any:
    """transformers' SiglipModel, with MLPs that are not four times as wide, as SO400M's."""
    import transformers

    shared = {"hidden_size": 128, "intermediate_size": 300, "num_hidden_layers": 3, "num_attention_heads": 4}
    text = {**shared, "vocab_size": vocab_size, "max_position_embeddings": CONTEXT, "pad_token_id": 1}
    text |= {"bos_token_id": 2, "eos_token_id": 1}
    vision = {**shared, "image_size": image_size, "patch_size": patch_size}
    model = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision)).eval()
    randomize(model)
    return model


@torch.no_grad()
def randomize(model: nn.Module) -> None:
    """Give every weight a value that matters: zeros and ones of an initialisation would hide a missing one."""
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2 and name.endswith("weight"):
            parameter.uniform_(0.5, 1.5)
        elif parameter.ndim < 2 or "embed" in name or "probe" in name or "latent" in name:
            parameter.normal_(std=0.3)


@torch.no_grad()
def measure_batch_statistics(model: Any, image: Tensor) -> None:
    """Set running means and variances to those of random images, as training would."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    if hasattr(model.visual, "layer4"):
        model.train()
        model.encode_image(image)


def texts(end: int = VOCABULARY - 1, pad: int = 0) -> tuple[Tensor, Tensor]:
    """Texts of 4, 9 and 16 tokens that end with `end`."""
    mask = torch.arange(CONTEXT) < torch.tensor([4, 9, 16])[:, None]
    tokens = torch.randint(2, VOCABULARY - 1, mask.shape)
    tokens[torch.arange(3), mask.sum(dim=1) - 1] = end
    return tokens.masked_fill(~mask, pad), mask


def assert_same(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
    """Equal, and neither near zero nor the same for every input."""
    assert theirs.abs().max() > 0.05, "an output near zero would agree with anything"
    assert (theirs[0] - theirs[1]).abs().max() > 0.003, "an output that ignores its input would agree with anything"
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def loaded(path: Path | str, **said: Any) -> DualEncoder:
    module = weights.pretrained(path, **said)
    assert isinstance(module, DualEncoder)
    return module


def save_open_clip(folder: Path, model: Any, config: dict[str, Any], preprocess: dict[str, Any] | None = None) -> None:
    folder.mkdir(exist_ok=True)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "model.safetensors")
    content = {"model_cfg": config, "preprocess_cfg": preprocess or {}}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
