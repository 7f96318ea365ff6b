"""CLIP's ResNets of any width and depth.

Shape letters: E joint embedding width.
"""

from collections.abc import Sequence

from timm.models.byobnet import ByoBlockCfg

from mmfound.errors import ConfigError
from mmfound.models.timm_tower import TimmTower
from mmfound.nn.pixels import CLIP_MEAN, CLIP_STD


class ClipResNet(TimmTower):
    """timm's `resnet50_clip` and its larger siblings, described by numbers alone.

    Source: Radford et al. 2021, arXiv:2103.00020, section 2.4: a stem of three convolutions, antialiased strides,
    attention pooling with heads 64 wide.

    Args:
        depths: blocks of the four stages; 3, 4, 6, 3 in RN50.
        width: channels of the stem, a multiple of 8; 64 in RN50. The last stage has 32 times as many.
        embed_dim: E.
        image_size: side of the images in pixels, a multiple of 32.
        mean: of each channel, for images in [0, 1].
        std: of each channel.

    Raises:
        ConfigError: when the width is another.
    """

    def __init__(
        self,
        depths: Sequence[int],
        width: int,
        embed_dim: int,
        *,
        image_size: int = 224,
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
    ) -> None:
        if width % 8:
            raise ConfigError(f"ClipResNet: width is {width}; timm builds multiples of 8")
        stages = zip(depths, (4, 8, 16, 32), (1, 2, 2, 2), strict=True)
        blocks = tuple(ByoBlockCfg(type="bottle", d=d, c=c * width, s=s, br=0.25) for d, c, s in stages)
        options = {"blocks": blocks, "stem_chs": (width // 2, width // 2, width)}
        super().__init__("resnet50_clip", embed_dim, image_size=image_size, mean=mean, std=std, options=options)
