"""What the two ways of the text into the denoiser are worth: its tokens, which pixels attend to, and its pooled vector.

    mmfound fit --config glide/shapes_base
    python benchmarks/text_paths.py

A way that is taken away has what the empty caption gives it, which training has shown the network together with the
other way's own. Prompts and noise stay the same. Scored by the fit of the renderer, 95 % intervals (Wilson).
"""

import argparse
from collections.abc import Mapping
from typing import Any

import torch
from guidance import cell, drawn, share
from torch import Tensor, nn

from mmfound.data import Shapes
from mmfound.diffusion import Stage
from mmfound.diffusion.conditioning import Condition, Conditioner, TrainedText
from mmfound.encoders import tokenizer_of
from mmfound.evaluation.attributes import Judge, tally
from mmfound.weights import pretrained

SHOWN = ("all", "color", "shape", "relation")


class SomeText(Conditioner):
    """The text's tokens, its vector, both or none; the empty caption's of what is missing."""

    def __init__(self, whole: TrainedText, tokens: bool, vector: bool) -> None:
        super().__init__(whole.drop)
        self.whole, self.tokens, self.vector = whole, tokens, vector
        self.reads = whole.reads

    def forward(self, batch: Mapping[str, Any], dropped_B: Tensor) -> Condition:
        """Of each way, what there is."""
        given, empty = self.whole(batch, dropped_B), self.whole(batch, torch.ones_like(dropped_B))
        return Condition(
            tokens=(given if self.tokens else empty).tokens, vector=(given if self.vector else empty).vector
        )


@torch.inference_mode()
def scores(image: Tensor, prompts: list[str]) -> list[str]:
    """A cell for each score; empty where no prompt says anything of it."""
    judge = Judge()
    verdicts = [judge.verdict(fit, text) for fit, text in zip(judge.fits(image, prompts), prompts, strict=True)]
    hits = tally(verdicts)
    return [cell(share(*hits[name])) if name in hits and hits[name][1] else "" for name in SHOWN]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="runs/glide/shapes_base/export")
    parser.add_argument("--samples", type=int, default=256)
    chosen = parser.parse_args()
    stage, tokenize = pretrained(chosen.base), tokenizer_of(chosen.base)
    assert isinstance(stage, Stage)
    whole = stage.conditioners[0]
    assert isinstance(whole, TrainedText)
    print(f"| objects | tokens | vector | {' | '.join(SHOWN)} |\n|---|---|---|{'---|' * len(SHOWN)}")
    for objects in (1, 2):
        styles = ("sized",) if objects == 1 else ("relation", "descriptive")
        source = Shapes(
            chosen.samples, 32, split="val", objects=(objects, objects), styles=styles, held_out="colour_shape"
        )
        prompts = [source[index].get("captions", [])[index % len(styles)] for index in range(chosen.samples)]
        for tokens, vector in ((True, True), (False, True), (True, False), (False, False)):
            stage.conditioners = nn.ModuleList([SomeText(whole, tokens, vector)])
            row = scores(drawn(stage, tokenize, prompts, stage.sampling), prompts)
            said = ["yes" if way else "no" for way in (tokens, vector)]
            print(f"| {objects} | {' | '.join([*said, *row])} |", flush=True)


if __name__ == "__main__":
    main()
