"""What data can be read from."""

from mmfound.data.sources.digits import Digits
from mmfound.data.sources.shapes import Shapes

__all__ = ["Digits", "Shapes"]
