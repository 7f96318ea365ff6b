"""What a denoiser has from each word of a caption, by the level of noise: where in sampling text decides what.

    mmfound fit --config glide/shapes_base
    python benchmarks/word_gains.py

Drawn shapes, one object, captions that name everything. The squared error of x0 ([-1, 1]), and how much it grows when
one word is another at random. Same pictures, noise and captions for every export.
"""

import argparse
import random
import re
from collections.abc import Sequence

import torch

from mmfound.data import Shapes
from mmfound.data.sources.shapes_scene import COLOURS, SHAPES
from mmfound.diffusion import SampleNoise, Stage, add_noise
from mmfound.encoders import tokenizer_of
from mmfound.text.tokenizer import Tokenizer
from mmfound.weights import pretrained

LOG_SNR = (-6, -4, -3, -2, -1, 0, 1, 2)
PLACES = [f"{row} {column}" for row in ("top", "middle", "bottom") for column in ("left", "middle", "right")]
PLACES[4] = "centre"
KINDS: dict[str, Sequence[str]] = {
    "colour": list(COLOURS),
    "shape": list(SHAPES),
    "size": ["small", "large"],
    "place": PLACES,
}


def exchanged(caption: str, words: Sequence[str], draw: random.Random) -> str:
    """The caption with one of the words as another of them."""

    def other(found: re.Match[str]) -> str:
        return draw.choice([word for word in words if word != found[0]])

    return re.sub(rf"\b({'|'.join(words)})\b", other, caption)


class Setup:
    """Pictures, their captions, and noise.

    Args:
        samples: how many.
        size: of the pictures.
    """

    def __init__(self, samples: int, size: int) -> None:
        source = Shapes(samples, size, split="val", objects=(1, 1), styles=("descriptive",), held_out="colour_shape")
        raw = [source[index] for index in range(samples)]
        self.x0 = torch.stack([torch.from_numpy(sample["image"].copy()) for sample in raw])  # pyright: ignore
        self.x0 = self.x0.permute(0, 3, 1, 2) / 127.5 - 1
        self.captions: list[str] = [sample["captions"][0] for sample in raw]  # pyright: ignore
        draw = random.Random(0)
        self.changed = {kind: [exchanged(text, words, draw) for text in self.captions] for kind, words in KINDS.items()}
        self.noise = SampleNoise(0, list(range(samples))).draw(self.x0)

    @torch.inference_mode()
    def errors(self, stage: Stage, tokenize: Tokenizer, log_snr: float) -> dict[str, float]:
        """Mean squared error of x0 under the captions and under each kind of changed ones."""
        time = (stage.schedule.level(torch.arange(1000)).log_snr - log_snr).abs().argmin()
        level = stage.schedule.level(time)
        x_t = add_noise(self.x0, self.noise, level)

        def error(captions: list[str]) -> float:
            condition = stage.condition(tokenize(captions), len(captions))
            return float((stage.denoiser(condition)(x_t, level).x0 - self.x0).square().mean())

        return {"": error(self.captions)} | {kind: error(texts) for kind, texts in self.changed.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", nargs="+", default=["runs/glide/shapes_base/export"])
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--size", type=int, default=32)
    chosen = parser.parse_args()
    setup = Setup(chosen.samples, chosen.size)
    print(f"| export | log-SNR | error | {' | '.join(KINDS)} |\n|{'---|' * (3 + len(KINDS))}")
    for base in chosen.base:
        stage, tokenize = pretrained(base), tokenizer_of(base)
        assert isinstance(stage, Stage)
        for log_snr in LOG_SNR:
            errors = setup.errors(stage, tokenize, log_snr)
            least = errors.pop("")
            gains = " | ".join(f"{error - least:+.4f}" for error in errors.values())
            print(f"| {base} | {log_snr} | {least:.4f} | {gains} |", flush=True)


if __name__ == "__main__":
    main()
