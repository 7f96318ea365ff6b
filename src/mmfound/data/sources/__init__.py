"""What data can be read from."""

from mmfound.data.sources.digits import Digits
from mmfound.data.sources.shapes import Shapes
from mmfound.data.sources.tar_shards import TarShards

__all__ = ["Digits", "Shapes", "TarShards"]
