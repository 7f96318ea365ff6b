"""Probes of trained features beside those of raw pixels and of an untrained tower; the numbers of docs/evaluation.md.

Run, after the recipe has been trained:
python benchmarks/probes.py --run runs/clip/digits --source digits [--seeds 0 1 2] [--side 16]
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from jsonargparse import ArgumentParser
from torch import Tensor, nn

from mmfound.data import Digits, ImageTextData, Resize, Source, TarShards
from mmfound.evaluation import LogisticRegression, Neighbours, Probe, RidgeRegression
from mmfound.models import DualEncoder
from mmfound.weights import pretrained

SHARDS = "../shared/data/{0}/{0}-{1}-*.tar"


class Pixels(nn.Module):
    """The picture itself, shrunk to a side of so many pixels."""

    device = torch.device("cpu")

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def image_features(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] in [0, 1] to [B, 3 * side * side]."""
        return F.interpolate(image, (self.side, self.side), mode="area").flatten(1)


def source(name: str, split: Any) -> Source:
    """A part of one of the three data sets."""
    return Digits(split) if name == "digits" else TarShards(SHARDS.format(name, split))


def untrained(run: Path, seed: int) -> DualEncoder:
    """The encoder of a run's recipe with its initial weights."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--encoder", type=DualEncoder)
    torch.manual_seed(seed)
    config = yaml.safe_load((run / "config.yaml").read_text())
    encoder = parser.instantiate(parser.parse_object({"encoder": config["model"]["init_args"]["encoder"]})).encoder
    return encoder.eval()


@torch.inference_mode()
def probe(model: nn.Module, name: str, size: int) -> dict[str, float]:
    """Accuracies on the test part, in percent."""
    data = ImageTextData(source(name, "train"), 64, eval_image=Resize(size), workers=0)
    train, val, test = (source(name, split) for split in ("train", "val", "test"))
    kinds = [LogisticRegression(), RidgeRegression(), Neighbours()]
    found = Probe(test, train, val_source=val, classifiers=kinds).evaluate(model, data)
    return {kind.name: 100 * found[f"{kind.name}_top1"] for kind in kinds}


def row(name: str, runs: list[dict[str, float]], count: int) -> str:
    """Mean over the runs; with one run the standard error of a share of `count` samples, else that of the mean."""
    cells = []
    for kind in runs[0]:
        values = [run[kind] for run in runs]
        mean = statistics.fmean(values)
        sampling = (mean * (100 - mean) / count) ** 0.5
        spread = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
        cells.append(f"{mean:.1f} ± {max(sampling, spread):.1f}")
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Print a row for the trained tower, the untrained one and the pixels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--source", choices=("digits", "fashion_mnist", "grocery"), required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--side", type=int, default=16)
    parser.add_argument("--size", type=int, default=32)
    arguments = parser.parse_args()
    name, size, count = arguments.source, arguments.size, len(source(arguments.source, "test"))
    print(f"| {name}, {count} samples | logistic | ridge | k-NN |", flush=True)
    print(row("trained", [probe(pretrained(arguments.run / "export"), name, size)], count), flush=True)
    raw = [probe(untrained(arguments.run, seed), name, size) for seed in arguments.seeds]
    print(row("untrained", raw, count), flush=True)
    print(row("pixels", [probe(Pixels(arguments.side), name, size)], count), flush=True)


if __name__ == "__main__":
    main()
