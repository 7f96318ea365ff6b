"""What data can be read from."""

from mmfound.data.sources.annotations import CocoCaptions, FewShotSplit, Vqa2
from mmfound.data.sources.arrow import Arrow
from mmfound.data.sources.class_folders import ClassFolders
from mmfound.data.sources.corrupted import Corrupted
from mmfound.data.sources.digits import Digits
from mmfound.data.sources.files import ImageFiles
from mmfound.data.sources.pictures import Pictures
from mmfound.data.sources.shapes import Shapes
from mmfound.data.sources.subset import Subset
from mmfound.data.sources.table import ParquetImages, Table
from mmfound.data.sources.tar_shards import TarShards
from mmfound.data.sources.torchvision_source import Torchvision
from mmfound.data.sources.transformed import Transformed

__all__ = [
    "Arrow",
    "ClassFolders",
    "CocoCaptions",
    "Corrupted",
    "Digits",
    "FewShotSplit",
    "ImageFiles",
    "ParquetImages",
    "Pictures",
    "Shapes",
    "Subset",
    "Table",
    "TarShards",
    "Torchvision",
    "Transformed",
    "Vqa2",
]
