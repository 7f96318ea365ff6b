"""How drawn pictures lie to held-out and to training pictures: kernel distance, and whether they are copies.

Shape letters: B samples, n of this rank, N of all, P downsampled pixels, D features.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfound import distributed
from mmfound.data.source import Source
from mmfound.errors import ConfigError
from mmfound.evaluation.embedding import device_of, in_step
from mmfound.evaluation.evaluator import Evaluator
from mmfound.evaluation.prompted import require_drawing, told
from mmfound.evaluation.selection import Spread
from mmfound.evaluation.table import Table
from mmfound.metrics.kid import Distance, kernel_distance
from mmfound.metrics.neighbours import nearest_samples
from mmfound.models.dual_encoder import image_features
from mmfound.sheets import grouped_sheet

_QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 1.0)
_COPY = 0.01  # the quantile of held-out pictures that a copy lies below


@dataclass(frozen=True)
class _Described:
    """Those pictures of a source that can be read, of all ranks: numbers [N], downsampled [N, P], described [N, D]."""

    index: Tensor
    pixels: Tensor
    features: Tensor


class SampleDistances(Evaluator):
    """Kernel distance (KID) of drawn pictures to held-out ones, and both kinds' distances to the training pictures.

    One picture is drawn for each held-out sample, from its caption or label. Metrics: `kid`, between `kid_floor`
    (training against held-out pictures) and `kid_ceiling`, and `kid_gap_closed`, (ceiling - kid) / (ceiling - floor);
    then, by downsampled pixels and by features, `nearest_{pixels,features}_ratio`, the median distance of drawn
    pictures to their nearest training picture over that of held-out ones, and `copies_{pixels,features}`, the share of
    drawn pictures at least as near as 1 % of the held-out ones: about 0.01 where nothing is copied.

    Tables: `kid`, with standard errors and the tower's class as the name of the features; `nearest`, quantiles of the
    distances. Sheet: `nearest`, the drawn pictures that lie nearest to training pictures, each beside its nearest by
    pixels and by features.

    Args:
        source: held-out samples of what the model was trained on.
        train_source: its training samples.
        tower: image tower with `features`, [B, 3, H, W] in [0, 1] to [B, D]; one trained on the training split alone.
        name: prefix of the metrics.
        samples: how many are drawn, spread over the source.
        train_samples: how many training pictures are compared to, spread over the source; all by default.
        ceiling: kernel distance of an untrained model, as `kid` was for it; that of clipped Gaussian noise by default,
            from which drawing begins.
        side: pixels are compared after downsampling to that.
        shown: pictures on the sheet.
        seed: of the noise.
    """

    def __init__(
        self,
        source: Source,
        train_source: Source,
        tower: nn.Module,
        *,
        name: str = "samples",
        samples: int = 1000,
        train_samples: int | None = None,
        ceiling: float | None = None,
        side: int = 16,
        shown: int = 24,
        seed: int = 0,
    ) -> None:
        super().__init__(source, name=name)
        self.train_source, self.tower = train_source, tower
        self.samples, self.train_samples = samples, train_samples or len(train_source)
        self.ceiling = ceiling
        self.side, self.shown, self.seed = side, shown, seed
        self._train: _Described | None = None  # which does not change
        if min(samples, len(source), self.train_samples) < 4:
            raise ConfigError(
                f"evaluator SampleDistances {name!r}: {samples} samples of {len(source)} and {self.train_samples} "
                "training pictures are too few; give four or more of each."
            )

    def check(self, model: nn.Module, data: Any) -> None:
        """The model draws, and the tower describes."""
        require_drawing(f"evaluator SampleDistances {self.name!r}", model)
        if not callable(getattr(self.tower, "features", None)):
            raise ConfigError(
                f"evaluator SampleDistances {self.name!r}: {type(self.tower).__name__} has no features(image). Give an "
                "image tower, such as mmfound.weights.pretrained with `part: image_tower` of a dual encoder's export."
            )

    def evaluate(self, model: nn.Module, data: Any) -> dict[str, float]:
        """Draw, describe, compare."""
        self.check(model, data)
        device = device_of(model)
        self.tower.to(device).eval()
        drawn, real, picture_N3HW = self._draw(model, data, device)
        if self._train is None:
            self._train = self._describe_source(data, Spread(self.train_source, self.train_samples), device)
        metrics = self._kernel(drawn, real, self._train, picture_N3HW)
        return metrics | self._nearest(data, drawn, real, self._train, picture_N3HW)

    def _draw(self, model: Any, data: Any, device: torch.device) -> tuple[_Described, _Described, Tensor]:
        """Drawn and held-out pictures described, and the drawn ones, uint8."""
        rows: list[tuple[Tensor, ...]] = []
        for batch, is_new in in_step(data.eval_batches(Spread(self.source, self.samples), device)):
            image = model.sample_images(told(batch), batch["index"].tolist(), self.seed).float().clamp(0, 1)
            if is_new:
                picture = (image * 255).round().to(torch.uint8)
                rows.append(
                    (batch["index"].to(device), *self._describe(image), *self._describe(batch["image"]), picture)
                )
        index, *found = _gathered(rows)
        return _Described(index, *found[:2]), _Described(index, *found[2:4]), found[4]

    def _describe_source(self, data: Any, source: Source, device: torch.device) -> _Described:
        batches = data.eval_batches(source, device)
        rows = [(batch["index"].to(device), *self._describe(batch["image"])) for batch in batches]
        return _Described(*_gathered(rows))

    def _describe(self, image: Tensor) -> tuple[Tensor, Tensor]:
        small = F.adaptive_avg_pool2d(image, min(self.side, image.shape[-1])).flatten(1)
        with torch.autocast(image.device.type, enabled=False):
            return small, image_features(self.tower, image)

    def _kernel(self, drawn: _Described, real: _Described, train: _Described, picture: Tensor) -> dict[str, float]:
        some = torch.linspace(0, len(train.features) - 1, min(len(train.features), 4 * len(real.features))).long()
        kid = kernel_distance(drawn.features, real.features)
        floor = kernel_distance(train.features[some], real.features)
        ceiling = Distance(self.ceiling, 0.0) if self.ceiling is not None else self._noise(picture, real)
        gap = ceiling.value - floor.value
        named = {"kid": kid, "kid_floor": floor, "kid_ceiling": ceiling}
        rows = [
            [f"{name} ({type(self.tower).__name__})", one.value, one.standard_error, len(real.features)]
            for name, one in named.items()
        ]
        self.tables = [Table("kid", ["distance", "value", "standard_error", "held_out"], rows)]
        closed = {"kid_gap_closed": (ceiling.value - kid.value) / gap} if gap > 0 else {}
        return {name: one.value for name, one in named.items()} | closed

    def _noise(self, picture: Tensor, real: _Described) -> Distance:
        generator = torch.Generator().manual_seed(self.seed)
        parts = []
        for rows in picture.split(256):
            noise = torch.randn(rows.shape, generator=generator) / 2 + 0.5
            parts.append(self._describe(noise.clamp(0, 1).to(rows.device))[1])
        return kernel_distance(torch.cat(parts), real.features)

    def _nearest(
        self, data: Any, drawn: _Described, real: _Described, train: _Described, picture: Tensor
    ) -> dict[str, float]:
        metrics: dict[str, float] = {}
        columns, neighbour = {}, {}
        for kind in ("pixels", "features"):
            of_drawn, neighbour[kind] = nearest_samples(getattr(drawn, kind), getattr(train, kind))
            of_real, _ = nearest_samples(getattr(real, kind), getattr(train, kind))
            columns |= {f"drawn_{kind}": of_drawn.cpu(), f"held_out_{kind}": of_real.cpu()}
            metrics[f"nearest_{kind}_ratio"] = float(of_drawn.median() / of_real.median().clamp(min=1e-12))
            metrics[f"copies_{kind}"] = float((of_drawn <= of_real.quantile(_COPY)).float().mean())
        rows = [[share, *(float(distance.quantile(share)) for distance in columns.values())] for share in _QUANTILES]
        self.tables.append(Table("nearest", ["quantile", *columns], rows))
        if distributed.rank() == 0 and self.shown:
            first = columns["drawn_pixels"].argsort()[: self.shown].tolist()
            near = data.eval_pictures(Spread(self.train_source, self.train_samples))
            found = [[int(train.index[of_row[row]]) for of_row in neighbour.values()] for row in first]
            groups = [
                [_shown(picture[row]), *(np.asarray(near[index]["image"]) for index in indices)]
                for row, indices in zip(first, found, strict=True)
            ]
            self.sheets = {"nearest": grouped_sheet(groups)}
        return metrics


def _gathered(rows: list[tuple[Tensor, ...]]) -> list[Tensor]:
    """All ranks' rows of every column, in the order of the first."""
    columns = [distributed.gather_rows(torch.cat(column)) for column in zip(*rows, strict=True)]
    order = columns[0].argsort()
    return [column[order] for column in columns]


def _shown(picture: Tensor) -> np.ndarray:
    return picture.permute(1, 2, 0).cpu().numpy()
