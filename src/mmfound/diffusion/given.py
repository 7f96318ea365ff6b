"""A picture that drawing begins with, at the sides that stages have.

Shape letters: B batch, S side of the given square.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_SOME = 0.1  # of a resized pixel, that has to be known; a pixel that sees nothing of the hole has a half or more


@dataclass(frozen=True)
class Given:
    """What is there already.

    Args:
        image: [3, S, S] float32 RGB in [0, 1].
        hole: [1, S, S] bool, True on what is to be drawn; None where the whole picture is.
        strength: share of the way from clean to noise that the picture is sent back, in (0, 1]; None for all of it.
    """

    image: Tensor
    hole: Tensor | None = None
    strength: float | None = None

    def image_at(self, side: int) -> Tensor:
        """[3, side, side] float32 in [0, 1]; the picture itself where it has that side."""
        if self.image.shape[-1] == side:
            return self.image
        resized = F.interpolate(self.image[None], (side, side), mode="bicubic", antialias=True, align_corners=False)
        return resized[0].clamp(0, 1)

    def known_image_at(self, side: int) -> Tensor:
        """[3, side, side] float32 in [0, 1] of known pixels alone; 0 where there are too few of them."""
        assert self.hole is not None
        if self.image.shape[-1] == side:
            return self.image * ~self.hole
        known = (~self.hole).float()
        both = torch.cat([self.image * known, known])[None]
        resized = F.interpolate(both, (side, side), mode="bicubic", antialias=True, align_corners=False)[0]
        return torch.where(resized[3:] > _SOME, resized[:3] / resized[3:].clamp(min=_SOME), 0).clamp(0, 1)

    def known_at(self, side: int) -> Tensor:
        """[1, side, side] bool, True on pixels that see nothing of the hole."""
        assert self.hole is not None
        return F.adaptive_max_pool2d(self.hole.float(), side) == 0
