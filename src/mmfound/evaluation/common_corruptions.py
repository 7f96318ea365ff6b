"""ImageNet-C's corruptions of whatever is evaluated on.

Shape letters: V versions of a sample, N samples times versions.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmfound.data.corruptions import CORRUPTIONS, SEVERITIES
from mmfound.data.errors import BadSample
from mmfound.data.source import Source
from mmfound.data.sources.corrupted import Corrupted, check_versions
from mmfound.errors import ConfigError
from mmfound.evaluation.table import Table

NAME = "corruptions"
_TRIES = 8  # pictures that may be bad


class CommonCorruptions:
    """Fifteen corruptions at five severities, applied to the picture that the network sees.

    Args:
        kinds: names of corruptions; all by default.
        severities: 1 to 5; all by default.
        seed: of the noise.

    Raises:
        ConfigError: when there is no such corruption or severity.

    Source: Hendrycks & Dietterich 2019, arXiv:1903.12261; what differs is said in `mmfound.data.corruptions`.
    """

    def __init__(
        self, kinds: Sequence[str] | None = None, severities: Sequence[int] = SEVERITIES, *, seed: int = 0
    ) -> None:
        self.kinds, self.severities, self.seed = list(CORRUPTIONS if kinds is None else kinds), tuple(severities), seed
        check_versions(self.kinds, self.severities)

    def source(self, clean: Source, data: Any) -> Corrupted:
        """All versions of all samples.

        Args:
            clean: the samples.
            data: the recipe's DataModule, whose evaluation transform comes before the corruption.

        Raises:
            ConfigError: when the transform changes its own results, so that it cannot come before.
        """
        seen = data.eval_pictures(clean)
        _refuse_changes(seen, data.eval_pictures(seen))
        return Corrupted(seen, kinds=self.kinds, severities=self.severities, seed=self.seed)

    def table(self, corrupted: Corrupted, hit_N: Tensor, index_N: Tensor) -> tuple[Table, dict[str, float]]:
        """Accuracy of every corruption at every severity, and their means over the severities by name.

        Args:
            corrupted: what was evaluated.
            hit_N: in [0, 1].
            index_N: int64 numbers of the samples in `corrupted`.
        """
        versions = len(corrupted.variants)
        version_N = index_N % versions
        hits_V = torch.zeros(versions, dtype=torch.float64, device=hit_N.device).index_add_(0, version_N, hit_N)
        counts_V = torch.bincount(version_N, minlength=versions)
        accuracy = (hits_V / counts_V).view(-1, len(self.severities)).tolist()
        kinds = [kind for kind, _ in corrupted.variants[:: len(self.severities)]]
        means = {kind: float(np.mean(row)) for kind, row in zip(kinds, accuracy, strict=True)}
        rows: list[list[str | float]] = [[kind, *row, means[kind]] for kind, row in zip(kinds, accuracy, strict=True)]
        rows.append(["mean", *np.mean(accuracy, axis=0).tolist(), float(np.mean(accuracy))])
        columns = ["corruption", *(f"severity {severity}" for severity in self.severities), "mean"]
        return Table(NAME, columns, rows), means


def _refuse_changes(seen: Source, again: Source) -> None:
    for index in range(min(_TRIES, len(seen))):
        try:
            once, twice = seen[index].get("image"), again[index].get("image")
        except BadSample:
            continue
        if not np.array_equal(np.asarray(once), np.asarray(twice)):
            raise ConfigError(
                "corruptions come after the evaluation transform, which must leave its own results as they are; "
                "data.init_args.eval_image does not. Use mmfound.data.CenterCrop or mmfound.data.Resize."
            )
        return
