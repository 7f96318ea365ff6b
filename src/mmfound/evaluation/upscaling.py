"""How near enlarged pictures come to the true ones, beside bicubic interpolation.

Shape letters: B samples, S side of the large pictures, n pictures.
"""

import math
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from mmfound.data.source import Source
from mmfound.diffusion.conditioning.low_resolution import downsampled, eight_bits
from mmfound.errors import ConfigError
from mmfound.evaluation.embedding import device_of, gather_lists, in_step
from mmfound.evaluation.evaluator import Evaluator
from mmfound.evaluation.prompted import LOW, require_drawing, told
from mmfound.evaluation.selection import Spread
from mmfound.evaluation.table import Table

_CAP = 100.0  # dB, of equal pictures


class Upscaling(Evaluator):
    """Mean peak signal-to-noise ratio in dB of pictures that the model enlarges, and of bicubic interpolation.

    Each true picture is made small (antialiased bicubic, 8 bits), enlarged, rounded to 8 bits and compared over RGB in
    [0, 1]; equal pictures count as 100 dB. Metrics: `psnr`, `psnr_bicubic` and `psnr_gain`, the mean of their
    differences. Table `psnr`: each with its standard error over pictures and 95 % interval.

    Args:
        source: true pictures.
        size: side of the small ones, in pixels.
        name: prefix of the metrics.
        samples: how many, spread over the source.
        seed: of the noise.
    """

    def __init__(
        self, source: Source, size: int, *, name: str = "upscaling", samples: int = 256, seed: int = 0
    ) -> None:
        super().__init__(source, name=name)
        self.size, self.samples, self.seed = size, samples, seed
        if min(samples, len(source)) < 2:
            raise ConfigError(
                f"evaluator Upscaling {name!r}: {samples} samples of {len(source)} are too few for a standard error; "
                "give two or more."
            )

    def check(self, model: nn.Module, data: Any) -> None:
        """The model draws."""
        require_drawing(f"evaluator Upscaling {self.name!r}", model, LOW)

    def evaluate(self, model: Any, data: Any) -> dict[str, float]:
        """Make small, enlarge both ways, compare."""
        self.check(model, data)
        found: list[tuple[float, float]] = []
        for batch, is_new in in_step(data.eval_batches(Spread(self.source, self.samples), device_of(model))):
            image = batch["image"].float()
            small = eight_bits(downsampled(image, self.size))
            given = {**told(batch), LOW: small}
            drawn = model.sample_images(given, batch["index"].tolist(), self.seed)
            if is_new:
                found += zip(psnr(drawn, image).tolist(), psnr(enlarged(small, image), image).tolist(), strict=True)
        own, bicubic = np.array(gather_lists(found)).T
        return self._summary({"psnr": own, "psnr_bicubic": bicubic, "psnr_gain": own - bicubic})

    def _summary(self, values: dict[str, np.ndarray]) -> dict[str, float]:
        rows = []
        for name, value_n in values.items():
            mean, error = float(value_n.mean()), float(value_n.std(ddof=1) / math.sqrt(len(value_n)))
            rows.append([name, len(value_n), mean, error, mean - 1.96 * error, mean + 1.96 * error])
        self.tables = [Table("psnr", ["metric", "pictures", "mean", "standard error", "low", "high"], rows)]
        return {row[0]: row[2] for row in rows}


def enlarged(small: Tensor, like: Tensor) -> Tensor:
    """The small pictures as large as others, by the bicubic kernel that Pillow has."""
    return F.interpolate(small, like.shape[-2:], mode="bicubic", antialias=True).clamp(0, 1)


def psnr(image: Tensor, true: Tensor) -> Tensor:
    """[B] dB between pictures [B, 3, S, S] in [0, 1], both rounded to 8 bits; at most 100."""
    difference = eight_bits(image.float().clamp(0, 1)) - eight_bits(true.float())
    error_B = difference.double().square().flatten(1).mean(dim=1)
    return -10 * error_B.clamp(min=10 ** (-_CAP / 10)).log10()
