"""CLIP guidance beside classifier-free guidance on drawn shapes: scores over scales, as a table and as a plot.

    mmfound fit --config glide/shapes_base
    mmfound fit --config glide/shapes_noised_clip
    mmfound fit --config glide/shapes_judge
    python benchmarks/guidance.py --plot docs/images/guidance.png

Every setting draws the same prompts from the same noise. They are judged by the fit of the renderer and by a clean CLIP
of another seed and width, which must find the prompt's class among the 64. 95 % intervals (Wilson). CLIP guides the
base model as it reads the prompt, and as it reads the empty caption: then all beyond chance comes from CLIP.
"""

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mmfound.data import Shapes
from mmfound.data.sources.shapes_scene import CLASSES
from mmfound.diffusion import ClassifierFree, ClipGuidance, SampleNoise, Sampling, Stage, draw
from mmfound.encoders import load_encoder, tokenizer_of
from mmfound.evaluation.attributes import Judge, tally
from mmfound.metrics.intervals import wilson_interval
from mmfound.text.tokenizer import Tokenizer
from mmfound.weights import pretrained

BATCH = 64
Share = tuple[float, float, float]  # with its interval


class Setup:
    """The base model, its prompts and, where it is named, the clean CLIP that judges."""

    def __init__(self, base: str, noised: str, judge: str | None, samples: int) -> None:
        stage = pretrained(base)
        assert isinstance(stage, Stage)
        self.stage, self.noised = stage, noised
        source = Shapes(samples, 32, split="val", objects=(1, 1), styles=("plain",), held_out="colour_shape")
        self.prompts = [source[index]["captions"][0] for index in range(samples)]  # pyright: ignore
        self.labels = torch.tensor([source[index]["label"] for index in range(samples)])  # pyright: ignore
        self.tokenize = tokenizer_of(base)
        if judge is not None:
            self._load(judge)

    def _load(self, judge: str) -> None:
        self.judge = load_encoder(judge)
        assert self.judge.tokenizer is not None
        text = self.judge.tokenizer([f"a {name}" for name in CLASSES])
        with torch.inference_mode():
            self.classes = self.judge.encoder.embed_text(text["tokens"], text["token_mask"])

    def drawn(self, free: float, clip: float) -> Tensor:
        """[n, 3, 32, 32] under a scale of each kind of guidance; 1 and 0 are none, and `free` 0 the empty caption."""
        sampling = copy.copy(self.stage.sampling)
        sampling.guidance = ClassifierFree(free) if free != 1 else None
        sampling.steering = ClipGuidance(self.noised, clip) if clip else None
        return drawn(self.stage, self.tokenize, self.prompts, sampling)

    @torch.inference_mode()
    def scores(self, image: Tensor) -> dict[str, Share]:
        """Shares of pictures that are right, by the fit and by the judge's CLIP."""
        judge = Judge()
        fits = judge.fits(image, self.prompts)
        verdicts = tally(judge.verdict(fit, prompt) for fit, prompt in zip(fits, self.prompts, strict=True))
        found = (self.judge.encoder.embed_image(image) @ self.classes.T).argmax(dim=1)
        right = {"fit": verdicts["all"], "clip": (int((found == self.labels).sum()), len(self.labels))}
        return {name: share(*counts) for name, counts in right.items()}


def drawn(stage: Stage, tokenize: Tokenizer, prompts: list[str], sampling: Sampling) -> Tensor:
    """[n, 3, S, S] in [0, 1], from the same noise whatever the prompts."""
    pictures = []
    for start in range(0, len(prompts), BATCH):
        some = prompts[start : start + BATCH]
        noise = SampleNoise(0, list(range(start, start + len(some))))
        pictures.append(stage.space.decode(draw(stage, {"prompt": some, **tokenize(some)}, noise, sampling)))
    return torch.cat(pictures)


def share(hits: int, total: int) -> Share:
    """With its 95 % interval."""
    return (hits / total, *wilson_interval(hits, total))


def cell(found: Share) -> str:
    """Of a table."""
    return "{:.3f} ({:.3f} to {:.3f})".format(*found)


def plot(path: Path, curves: dict[str, dict[float, dict[str, Share]]]) -> None:
    """Both scores over the scales of each kind of guidance."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(curves), figsize=(12, 3.2), sharey=True)
    for axis, (kind, by_scale) in zip(axes, curves.items(), strict=True):
        for judge, label in (("fit", "fit of the renderer"), ("clip", "clean CLIP")):
            shares = [scores[judge] for scores in by_scale.values()]
            middle = [share for share, _, _ in shares]
            errors = [[share - low for share, low, _ in shares], [high - share for share, _, high in shares]]
            axis.errorbar(list(by_scale), middle, errors, marker="o", capsize=3, label=label)
        axis.set(xlabel=f"scale of {kind}", ylim=(0, 1))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("right pictures")
    axes[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


# By kind of guidance, with the scale of the classifier-free one where only CLIP's changes.
KINDS = {"classifier-free guidance": None, "CLIP guidance": 1.0, "CLIP guidance, empty caption": 0.0}


def measured(setup: Setup, kind: str, scales: Sequence[float]) -> dict[float, dict[str, Share]]:
    """Scores by scale, told as they come."""
    rows, fixed = {}, KINDS[kind]
    for scale in scales:
        free, clip = (scale, 0.0) if fixed is None else (fixed, scale)
        rows[scale] = setup.scores(setup.drawn(free, clip))
        print(f"| {kind} | {scale:g} | {' | '.join(map(cell, rows[scale].values()))} |", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="runs/glide/shapes_base/export")
    parser.add_argument("--noised", default="runs/glide/shapes_noised_clip/export")
    parser.add_argument("--judge", default="runs/glide/shapes_judge/export")
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--free", type=float, nargs="+", default=[1, 1.5, 2, 3, 4])
    parser.add_argument("--clip", type=float, nargs="+", default=[0, 0.25, 0.5, 1, 2, 4])
    parser.add_argument("--alone", type=float, nargs="+", default=[0, 1, 4, 16])
    parser.add_argument("--plot", type=Path)
    chosen = parser.parse_args()
    setup = Setup(chosen.base, chosen.noised, chosen.judge, chosen.samples)
    print("| guidance | scale | fit | clean CLIP |\n|---|---|---|---|")
    scales = zip(KINDS, (chosen.free, chosen.clip, chosen.alone), strict=True)
    curves = {kind: measured(setup, kind, some) for kind, some in scales}
    if chosen.plot:
        plot(chosen.plot, curves)


if __name__ == "__main__":
    main()
