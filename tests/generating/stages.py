"""Exports of tiny stages with random weights."""

from pathlib import Path
from typing import Any

import torch

from mmfound.building import build
from mmfound.text import TrainedBpe
from mmfound.weights import export

Config = dict[str, Any]
CONTEXT = 24


def part(path: str, **init_args: Any) -> Config:
    return {"class_path": f"mmfound.{path}", "init_args": init_args}


def text(drop: float = 0.2) -> Config:
    transformer = part("models.GlideText", vocab_size=300, context=CONTEXT, width=8, depth=1, heads=2, embed_dim=32)
    return part("diffusion.conditioning.TrainedText", transformer=transformer, drop=drop)


def smaller(size: int, target: int) -> Config:
    return part("diffusion.conditioning.LowResolution", size=size, target=target)


def inpainting(size: int) -> Config:
    return part("diffusion.conditioning.Inpainting", size=size)


def classes(drop: float = 0.0) -> Config:
    return part("diffusion.conditioning.ClassLabels", classes=3, embed_dim=32, drop=drop)


def stage(size: int, *conditioners: Config, **sampling: Any) -> Config:
    """An epsilon model of pictures of `size` pixels, which draws in 3 steps of DDIM unless told otherwise."""
    beside = sum({"LowResolution": 3, "Inpainting": 4}.get(c["class_path"].rpartition(".")[2], 0) for c in conditioners)
    reads_text = any(c["class_path"].endswith("TrainedText") for c in conditioners)
    attention = part("models.unet_parts.Joint", head_dim=4, token_width=8) if reads_text else None
    network = part(
        "models.UNet",
        in_channels=3 + beside,
        out_channels=3,
        width=8,
        multipliers=[1, 1],
        blocks=1,
        attention_at=[2] if reads_text else [],
        residual=part("models.unet_parts.ScaleShift", groups=4),
        attention=attention,
    )
    return part(
        "diffusion.stage.Stage",
        network=network,
        schedule=part("diffusion.schedules.CosineSchedule"),
        prediction=part("diffusion.predictions.V"),
        space=part("diffusion.spaces.PixelSpace", size=size),
        conditioners=list(conditioners),
        sampling=part(
            "diffusion.sampling.Sampling", **{"steps": 3, "threshold": part("diffusion.thresholds.Static"), **sampling}
        ),
    )


def randomise(module: Any, seed: int = 0) -> Any:
    """Move every weight, those that are zero in a fresh network too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return module


def stage_export(folder: Path, config: Config, *, seed: int = 0, tokenizer: bool = True) -> str:
    """Export a stage with random weights, and a tokenizer."""
    bpe = _tokenizer(folder) if tokenizer else None
    export(randomise(build(config, "test"), seed), config, folder, tokenizer=bpe, image={"size": 16})
    return str(folder)


def clip_export(folder: Path, size: int = 8) -> str:
    """Export a CLIP that is told how noisy pictures of `size` pixels are, with random weights, and a tokenizer."""
    tower = part("models.TimedConv", image_size=size, width=8, embed_dim=8)
    config = part(
        "models.DualEncoder",
        image_tower=part("models.NoisedTower", tower=tower, schedule=part("diffusion.CosineSchedule")),
        text_tower=part("models.Cbow", vocab_size=300, width=8, embed_dim=8),
    )
    torch.manual_seed(0)
    export(build(config, "test"), config, folder, tokenizer=_tokenizer(folder), image={"size": size})
    return str(folder)


def _tokenizer(folder: Path) -> TrainedBpe:
    bpe = TrainedBpe(300, CONTEXT)
    bpe.prepare(lambda: ["a red square", "a blue circle"], folder.parent / f"{folder.name}.bpe")
    return bpe


# In place of the recipes' exports, in commands of the docs.
STAND_INS = {
    "shapes_base": stage(8, text()),
    "shapes_upsampler": stage(16, text(0.0), smaller(8, 16)),
    "shapes_inpaint": stage(8, inpainting(8), text()),
    "exports/glide_base": stage(8, text()),
    "exports/glide_upsample": stage(16, text(0.0), smaller(8, 16)),
    "exports/glide_base_inpaint": stage(8, inpainting(8), text()),
    "exports/glide_upsample_inpaint": stage(16, text(0.0), inpainting(16), smaller(8, 16)),
}
