"""How much of the exact score on drawn shapes is its bound's doing, and how much the number of pixels'.

    mmfound fit --config glide/shapes_base
    mmfound fit --config glide/shapes_upsampler
    python benchmarks/fit_bound.py --upsampler runs/glide/shapes_upsampler/export

Prompts and noise are those of benchmarks/guidance.py. The first table has the base model's pictures under several
bounds of the error, beside the share of true pictures of two objects that would pass as one. The second has the same
pictures at 32 pixels, enlarged to 64 by bicubic interpolation and by the upsampler, and made small again.
"""

import argparse

import torch
import torchvision.transforms.functional as F
from guidance import BATCH, Setup, cell, drawn, share
from torch import Tensor

from mmfound.data import Shapes
from mmfound.data.sources.shapes_fit import Fit
from mmfound.diffusion.conditioning.low_resolution import downsampled, eight_bits
from mmfound.evaluation.attributes import Judge, tally
from mmfound.evaluation.upscaling import enlarged
from mmfound.generating.loading import load_pipeline

BOUNDS = (0.10, 0.12, 0.14, 0.16, 0.18, 0.20)
SMALL, LARGE = 32, 64
SHOWN = ("all", "found")


def shares(judge: Judge, fits: list[Fit], prompts: list[str]) -> dict[str, str]:
    """A cell for each score shown."""
    hits = tally(judge.verdict(fit, prompt) for fit, prompt in zip(fits, prompts, strict=True))
    return {name: cell(share(*hits[name])) for name in SHOWN}


def of_two(count: int) -> tuple[list[Fit], list[str]]:
    """Fits of true pictures of two objects where one is asked for."""
    source = Shapes(count, SMALL, split="test", objects=(2, 2))
    image = torch.stack([F.to_tensor(source[index].get("image")) for index in range(count)])
    prompts = ["a red circle"] * count
    return Judge().fits(image, prompts), prompts


def by_bound(pictures: Tensor, prompts: list[str], pairs: int) -> None:
    """The first table."""
    fits, two = Judge().fits(pictures, prompts), of_two(pairs)
    print("| bound | right | found | two taken as one |\n|---|---|---|---|")
    for bound in BOUNDS:
        judge = Judge(residual=bound)
        print(f"| {bound:.2f} | {' | '.join(shares(judge, fits, prompts).values())} | {shares(judge, *two)['found']} |")


def upsampled(setup: Setup, exports: list[str]) -> Tensor:
    """[n, 3, 64, 64] that the base model and the upsampler draw in a row."""
    pipeline, pictures = load_pipeline(exports).pipeline, []
    for start in range(0, len(setup.prompts), BATCH):
        some = setup.prompts[start : start + BATCH]
        batch = {"prompt": some, **setup.tokenize(some)}
        pictures.append(pipeline.sample_images(batch, list(range(start, start + len(some))), 0))
    return torch.cat(pictures)


def by_side(small: Tensor, setup: Setup, exports: list[str]) -> None:
    """The second table."""
    large = upsampled(setup, exports)
    kinds = {
        f"as drawn, {SMALL} pixels": small,
        f"bicubic, {LARGE} pixels": enlarged(small, torch.empty(1, 3, LARGE, LARGE)),
        f"upsampler, {LARGE} pixels": large,
        f"upsampler, made small to {SMALL} again": downsampled(large, SMALL),
    }
    print("\n| pictures | right | found |\n|---|---|---|")
    for name, pictures in kinds.items():
        judge = Judge()
        print(f"| {name} | {' | '.join(shares(judge, judge.fits(pictures, setup.prompts), setup.prompts).values())} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="runs/glide/shapes_base/export")
    parser.add_argument("--upsampler", help="an export of glide/shapes_upsampler, for the second table")
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=1000, help="true pictures of two objects")
    chosen = parser.parse_args()
    setup = Setup(chosen.base, "", None, chosen.samples)
    pictures = eight_bits(drawn(setup.stage, setup.tokenize, setup.prompts, setup.stage.sampling).clamp(0, 1))
    by_bound(pictures, setup.prompts, chosen.pairs)
    if chosen.upsampler:
        by_side(pictures, setup, [chosen.base, chosen.upsampler])


if __name__ == "__main__":
    main()
