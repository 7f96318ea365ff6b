"""Sources, the resumable training stream, and the DataModule that joins them."""

from mmfound.batch import image_float
from mmfound.data.captions import Caption, FirstCaption, RandomCaption
from mmfound.data.datamodule import ImageTextData
from mmfound.data.errors import BadSample
from mmfound.data.loader import TrainLoader
from mmfound.data.mixture import Mixture, Share
from mmfound.data.order import BlockShuffle, FullShuffle, Order, Sequential
from mmfound.data.source import Source
from mmfound.data.sources import (
    Arrow,
    ClassFolders,
    CocoCaptions,
    Corrupted,
    Digits,
    FewShotSplit,
    ImageFiles,
    ParquetImages,
    Pictures,
    Shapes,
    Subset,
    Table,
    TarShards,
    Torchvision,
    Transformed,
    Vqa2,
)
from mmfound.data.transforms import CenterCrop, RandomCrop, RandomResizedCrop, Resize, TrimBorder
from mmfound.data.watch import DataWait

__all__ = [
    "Arrow",
    "BadSample",
    "BlockShuffle",
    "Caption",
    "CenterCrop",
    "ClassFolders",
    "CocoCaptions",
    "Corrupted",
    "DataWait",
    "Digits",
    "FewShotSplit",
    "FirstCaption",
    "FullShuffle",
    "ImageFiles",
    "ImageTextData",
    "Mixture",
    "Order",
    "ParquetImages",
    "Pictures",
    "RandomCaption",
    "RandomCrop",
    "RandomResizedCrop",
    "Resize",
    "Sequential",
    "Shapes",
    "Share",
    "Source",
    "Subset",
    "Table",
    "TarShards",
    "Torchvision",
    "TrainLoader",
    "Transformed",
    "TrimBorder",
    "Vqa2",
    "image_float",
]
