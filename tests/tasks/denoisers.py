"""A small GLIDE, its batches and its fits."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import nn

from mmfound.callbacks import Ema, StepSeed
from mmfound.data import ImageTextData, Resize, Shapes
from mmfound.diffusion import (
    ClassifierFree,
    CosineBetas,
    Ddim,
    DiscreteSchedule,
    Epsilon,
    LearnedRange,
    Sampling,
    Static,
)
from mmfound.diffusion.conditioning import TrainedText
from mmfound.diffusion.spaces import PixelSpace
from mmfound.diffusion.stage import Stage
from mmfound.models import GlideText, UNet
from mmfound.models.unet_parts import Joint, ScaleShift
from mmfound.optim import Constant, Optim
from mmfound.tasks import Diffusion
from mmfound.text import TrainedBpe
from tests.callbacks.fakes import make_trainer

SIZE, CONTEXT = 8, 16


def glide(size: int = SIZE) -> Stage:
    """The base model's structure, as small as it gets."""
    network = UNet(3, 6, 8, [1, 2], 1, [2], residual=ScaleShift(dropout=0.1, groups=4), attention=Joint(8, head_dim=8))
    sampling = Sampling(Ddim(), steps=3, guidance=ClassifierFree(2.0), threshold=Static())
    return Stage(
        network,
        DiscreteSchedule(CosineBetas()),
        Epsilon(),
        PixelSpace(size),
        [TrainedText(GlideText(320, CONTEXT, 8, 1, 2, 32), drop=0.3)],
        LearnedRange(),
        sampling,
    )


def adam(rate: float = 4e-3) -> Optim:
    return Optim(lambda groups: torch.optim.AdamW(groups, lr=rate), Constant())  # pyright: ignore


def task(seed: int = 0, rate: float = 4e-3) -> Diffusion:
    torch.manual_seed(seed)
    made = Diffusion(glide(), adam(rate))
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.1)  # a fresh network's output is zero
    return made


def batch_of(count: int, first: int = 0) -> dict[str, Any]:
    keys = [f"sample {n}" for n in range(first, first + count)]
    images = [
        torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(n)) for n in range(first, first + count)
    ]
    tokens = torch.arange(first, first + count)[:, None] * 8 + torch.arange(8)
    mask = torch.arange(8) < 3 + torch.arange(first, first + count)[:, None] % 5
    return {"key": keys, "image": torch.stack(images), "tokens": tokens, "token_mask": mask}


def data(folder: Path, **options: Any) -> ImageTextData:
    return ImageTextData(
        Shapes(count=64, size=SIZE, objects=(1, 1), styles=["plain"]),
        4,
        val_source=Shapes(count=6, size=SIZE, split="val", objects=(1, 1), styles=["plain"]),
        tokenizer=TrainedBpe(300, CONTEXT),
        train_image=Resize(SIZE),
        eval_image=Resize(SIZE),
        workers=0,
        seed=0,
        **options,
    )


def fit(
    folder: Path,
    steps: int,
    *callbacks: Callback,
    checkpoint: Path | None = None,
    module: Diffusion | None = None,
    **options: Any,
) -> Diffusion:
    module = module or task(seed=steps if checkpoint else 0)
    trainer = make_trainer(folder, [Ema(0.9), StepSeed(7), *callbacks], max_steps=steps, val_check_interval=2)
    trainer.fit(module, datamodule=data(folder, **options), ckpt_path=checkpoint, weights_only=False)
    trainer.save_checkpoint(folder / f"{steps}.ckpt")
    module.metrics = dict(trainer.callback_metrics)  # pyright: ignore
    return module
