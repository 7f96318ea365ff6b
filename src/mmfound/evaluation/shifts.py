"""A shift of a label space, and what counts as right under it.

Shape letters: n samples, C classes of the reference, G classes of the shift.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmfound.data.source import Source
from mmfound.errors import DataError
from mmfound.evaluation.class_maps import ClassMap, SameNames
from mmfound.metrics.ranking import expected_hits

_NAMED = 50  # unmapped classes in a message


class Shift:
    """Other pictures of the same classes, or of some of them.

    Args:
        name: of its column and metrics.
        source: pictures with labels and class names.
        class_map: what its classes stand for; the same names by default.
    """

    def __init__(self, name: str, source: Source, *, class_map: ClassMap | None = None) -> None:
        self.name = name
        self.source = source
        self.class_map = class_map or SameNames()

    def space(self, reference: Sequence[str]) -> "LabelSpace":
        """The shift's classes in those of the reference.

        Args:
            reference: the names of its C classes.

        Raises:
            DataError: naming the classes that no map covers.
        """
        number = {name: row for row, name in enumerate(reference)}
        found = [self.class_map.numbers(name, number) for name in self.source.classes]
        unmapped = [name for name, numbers in zip(self.source.classes, found, strict=True) if numbers is None]
        what = f"shift {self.name!r}: {type(self.source).__name__}"
        if unmapped:
            named = ", ".join(map(repr, unmapped[:_NAMED])) + (", ..." if len(unmapped) > _NAMED else "")
            raise DataError(
                f"{what} has {len(unmapped)} classes that {type(self.class_map).__name__} does not map to any of the "
                f"reference's {len(reference)}: {named}. Give it a class_map that does; null leaves a class out."
            )
        if not any(found):
            raise DataError(f"{what} has no class that stands for one of the reference's; check its class_map.")
        member_GC = torch.zeros(len(found), len(reference), dtype=torch.bool)
        for row, numbers in enumerate(found):
            member_GC[row, list(numbers or ())] = True
        return LabelSpace(member_GC)


@dataclass(frozen=True)
class LabelSpace:
    """Classes that each stand for some of the reference's.

    Args:
        member_GC: bool; a row without any is left out.
    """

    member_GC: Tensor

    @property
    def chance(self) -> float:
        """Accuracy of a guess among the reference's classes that take part, mean over the classes."""
        sizes_G = self.member_GC.sum(dim=1).double()
        return float(sizes_G[sizes_G > 0].mean() / self.member_GC.any(dim=0).sum())

    def of_shift(self, label_n: Tensor) -> Tensor:
        """[n] labels of the shift to bool [n, G]."""
        return label_n[:, None] == torch.arange(len(self.member_GC), device=label_n.device)

    def of_reference(self, label_n: Tensor) -> Tensor:
        """[n] labels of the reference to bool [n, G], the classes that stand for them."""
        return self.member_GC.to(label_n.device)[:, label_n].T

    def hits(self, score_nC: Tensor, class_nG: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Whether the best-scored class is right, where only the classes that take part compete.

        Args:
            score_nC: over all classes of the reference.
            class_nG: bool; what each sample is.

        Returns:
            [n] bool of the samples that count, and of those [m] float64 hits in [0, 1] and [m] int64 classes.
        """
        member_GC = self.member_GC.to(score_nC.device)
        takes_part_C = member_GC.any(dim=0)
        positive_nC = (class_nG.float() @ member_GC.float()) > 0
        counts_n = positive_nC.any(dim=1)
        score, positive = score_nC[counts_n][:, takes_part_C], positive_nC[counts_n][:, takes_part_C]
        return counts_n, expected_hits(score, positive, (1,))[:, 0], class_nG[counts_n].int().argmax(dim=1)
