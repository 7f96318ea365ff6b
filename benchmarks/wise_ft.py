"""Accuracy on clean and on shifted digits of weights between a model and its fine-tuning (WiSE-FT), over seeds.

The start is clip/digits, trained with pictures turned and inverted; fine-tuning is clip/finetune_digits, on plain ones.
The shift is turned and inverted test pictures. Run: python benchmarks/wise_ft.py [--seeds 3]
"""

import argparse
import os
import tempfile
from pathlib import Path
from statistics import mean

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2.functional import rotate

from mmfound.cli import main as mmfound
from mmfound.data import Digits
from mmfound.encoders import load_encoder
from mmfound.interpolation import interpolate_exports

ALPHAS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0)
RECIPES = Path(__file__).resolve().parents[1] / "recipes" / "clip"
SHIFTED = """
data:
  init_args:
    augment:
      - {class_path: torchvision.transforms.v2.RandomRotation, init_args: {degrees: [-40, 40]}}
      - {class_path: torchvision.transforms.v2.RandomInvert, init_args: {p: 0.5}}
"""


def pictures() -> tuple[Tensor, Tensor]:
    """Test pictures in [0, 1], [n, 3, 32, 32], and their labels."""
    source = Digits("test")
    samples = [source[index] for index in range(len(source))]
    grey = torch.stack([torch.as_tensor(sample["image"]).permute(2, 0, 1) for sample in samples])
    image = F.interpolate(grey, (32, 32), mode="bicubic", antialias=True).float() / 255
    return image, torch.tensor([sample["label"] for sample in samples])


def shifts(image: Tensor) -> dict[str, Tensor]:
    """The pictures as they are, and each shift of them."""
    turned = torch.cat([rotate(part, angle) for part, angle in zip(image.chunk(2), (-30, 30), strict=True)])
    return {"clean": image, "turned": turned, "inverted": 1 - image}


@torch.no_grad()
def accuracies(export: Path) -> list[float]:
    """Zero-shot top-1 on each."""
    loaded, (image, label) = load_encoder(export), pictures()
    assert loaded.tokenizer is not None
    tokens = [loaded.tokenizer([f"a handwritten {name}", f"the digit {name}"]) for name in Digits.classes]
    texts = [loaded.encoder.embed_text(one["tokens"], one["token_mask"]).mean(dim=0) for one in tokens]
    classes = F.normalize(torch.stack(texts), dim=1)
    scores = [loaded.encoder.embed_image(shifted) @ classes.T for shifted in shifts(image).values()]
    return [(score.argmax(dim=1) == label).float().mean().item() for score in scores]


def curve(seed: int, steps: int, folder: Path) -> list[list[float]]:
    """Accuracies by alpha."""
    os.chdir(folder)
    (folder / "shifted.yaml").write_text(SHIFTED)
    common = ["--seed_everything", str(seed), "--trainer.accelerator", "cpu", "--data.workers", "0"]
    common += ["--trainer.limit_val_batches", "0", "--evaluators", "[]", "--trainer.enable_progress_bar", "false"]
    start = ["--config", str(RECIPES / "digits.yaml"), "--config", "shifted.yaml", "--trainer.max_steps", str(steps)]
    assert mmfound(["fit", *start, "--run_dir", "runs/clip/digits", *common]) == 0
    tuned = ["--config", str(RECIPES / "finetune_digits.yaml"), "--run_dir", "tuned"]
    assert mmfound(["fit", *tuned, *common]) == 0
    for alpha in ALPHAS:
        interpolate_exports("runs/clip/digits/export", "tuned/export", alpha, f"mixed/{alpha}")
    return [accuracies(Path(f"mixed/{alpha}")) for alpha in ALPHAS]


def main() -> None:
    """Print a row per alpha: the mean over seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    args = parser.parse_args()
    curves = []
    for seed in range(args.seeds):
        with tempfile.TemporaryDirectory() as folder:
            curves.append(curve(seed, args.steps, Path(folder)))
    print(f"{len(pictures()[0])} test pictures, mean of {args.seeds} seeds")
    print(f"{'alpha':>6}{'clean':>10}{'turned':>10}{'inverted':>10}{'shifted':>10}")
    for place, alpha in enumerate(ALPHAS):
        row = [100 * mean(one[place][kind] for one in curves) for kind in range(3)]
        print(f"{alpha:>6}" + "".join(f"{value:>10.2f}" for value in [*row, mean(row[1:])]), flush=True)


if __name__ == "__main__":
    main()
