"""What fewer steps, other samplers and guidance in an interval cost in score, on drawn shapes.

    python benchmarks/sampling.py

Prompts, noise and judges are those of benchmarks/guidance.py; networks of `--base`, `--judge`. "calls" are rows that go
through the network for each picture: two a step with guidance. CPU-seconds of one thread, text included.
"""

import argparse
import copy
import time

import torch
from guidance import Setup, cell, drawn
from torch import Tensor

from mmfound.diffusion import ClassifierFree, Ddim, Ddpm, DpmSolver2M, Heun, Sampling

SCALE = 3.0
EARLY = (-30.0, 1.0)  # log-SNR, as in the recipe


def options(base: Sampling) -> dict[str, Sampling]:
    """Settings by name."""

    def changed(**settings: object) -> Sampling:
        made = copy.copy(base)
        for name, value in {"guidance": ClassifierFree(SCALE), **settings}.items():
            setattr(made, name, value)
        return made

    early, solver = ClassifierFree(SCALE, interval=EARLY), DpmSolver2M()
    inside = f"guided at log-SNR up to {EARLY[1]:g}"
    return {
        "ancestral, 50 steps": changed(steps=50, sampler=Ddpm()),
        "DDIM, 50 steps": changed(steps=50, sampler=Ddim()),
        "DDIM, 25 steps": changed(steps=25, sampler=Ddim()),
        "DPM-Solver++(2M), 25 steps": changed(steps=25, sampler=solver),
        f"DPM-Solver++(2M), 25 steps, {inside}": changed(steps=25, sampler=solver, guidance=early),
        f"DPM-Solver++(2M), 15 steps, {inside}": changed(steps=15, sampler=solver, guidance=early),
        f"DPM-Solver++(2M), 10 steps, {inside}": changed(steps=10, sampler=solver, guidance=early),
        f"Heun, 10 steps, {inside}": changed(steps=10, sampler=Heun(), guidance=early),
        "DPM-Solver++(2M), 25 steps, no guidance": changed(steps=25, sampler=solver, guidance=None),
    }


def measured(setup: Setup, sampling: Sampling) -> tuple[Tensor, float, float]:
    """Pictures, rows through the network and CPU-seconds, both for each picture."""
    rows = 0

    def count(_module: object, given: tuple[Tensor, ...]) -> None:
        nonlocal rows
        rows += len(given[0])

    hook = setup.stage.network.register_forward_pre_hook(count)
    start, n = time.process_time(), len(setup.prompts)
    pictures = drawn(setup.stage, setup.tokenize, setup.prompts, sampling)
    hook.remove()
    return pictures, rows / n, (time.process_time() - start) / n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="runs/glide/shapes_base/export")
    parser.add_argument("--judge", default="runs/glide/shapes_judge/export")
    parser.add_argument("--samples", type=int, default=256)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    setup = Setup(chosen.base, "", chosen.judge, chosen.samples)
    print("| setting | fit | clean CLIP | calls | CPU-s |\n|---|---|---|---|---|")
    for name, sampling in options(setup.stage.sampling).items():
        image, calls, seconds = measured(setup, sampling)
        print(
            f"| {name} | {' | '.join(map(cell, setup.scores(image).values()))} | {calls:.1f} | {seconds:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
