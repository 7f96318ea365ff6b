"""Settings that no part can be built with."""

import math
from collections.abc import Callable

import pytest
import torch

from mmfound.diffusion import ClassifierFree, CosineSchedule
from mmfound.diffusion.conditioning.degradations import NoiseAugmentation
from mmfound.diffusion.rescheduled import Shifted
from mmfound.diffusion.spaces import PixelSpace
from mmfound.errors import ConfigError
from mmfound.models import UNet

BAD: dict[str, Callable[[], object]] = {
    "scale is nan": lambda: ClassifierFree(math.nan),
    "shift is nan": lambda: Shifted(CosineSchedule(), math.nan),
    "size is 0": lambda: PixelSpace(0),
    "multipliers are": lambda: UNet(3, 3, 8, [1, -1], 1),
    "augmentation_level is 3": lambda: NoiseAugmentation(CosineSchedule(), 8)(
        {"augmentation_level": 3.0}, torch.zeros(2, 3, 8, 8)
    ),
}


@pytest.mark.parametrize("said", BAD)
def test_what_makes_no_sense_is_named(said: str):
    with pytest.raises(ConfigError, match=said):
        BAD[said]()
