"""The smallest task and data that a recipe can name."""

from typing import TypedDict

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmfound.errors import ConfigError, DataError
from mmfound.optim import Optim
from mmfound.tasks import Task


class Numbers(TypedDict):
    key: list[str]
    x: Tensor


class Tower(nn.Module):
    def __init__(self, width: int = 2) -> None:
        super().__init__()
        if width > 100:
            raise ConfigError(f"width {width} is too much; use 100 or less")
        self.net = nn.Linear(1, width)


class WideTower(Tower):
    def __init__(self, width: int = 3, extra: bool = False) -> None:
        super().__init__(width)


class Pair(nn.Module):
    def __init__(self, tower: Tower, other: Tower | None = None) -> None:
        super().__init__()
        self.tower = tower


class Toy(Task):
    batch_type = Numbers

    def __init__(self, pair: Pair, optim: Optim) -> None:
        super().__init__(optim)
        self.pair = pair

    def compute_losses(self, batch: Numbers) -> dict[str, Tensor]:
        return {"loss": self.pair.tower.net(batch["x"]).square().mean()}

    def predict_step(self, batch: Numbers, batch_idx: int) -> Tensor:
        return self.pair.tower.net(batch["x"])


class Fails(Toy):
    def __init__(self, pair: Pair, optim: Optim, kind: str = "data") -> None:
        super().__init__(pair, optim)
        self.kind = kind

    def compute_losses(self, batch: Numbers) -> dict[str, Tensor]:
        errors = {
            "data": DataError("no picture in 3.tar"),
            "bug": ZeroDivisionError("a bug"),
            "user": KeyboardInterrupt(),
        }
        raise errors[self.kind]


class ToyData(LightningDataModule):
    def __init__(self, global_batch_size: int = 4, size: int = 32) -> None:
        super().__init__()
        self.global_batch_size = global_batch_size
        self.size = size

    def train_dataloader(self) -> DataLoader:
        x = torch.arange(self.size, dtype=torch.float32)[:, None] / self.size
        samples = list(zip(map(str, range(self.size)), x, strict=True))
        return DataLoader(samples, batch_size=self.global_batch_size, collate_fn=_batch)

    def val_dataloader(self) -> DataLoader:
        return self.train_dataloader()

    def test_dataloader(self) -> DataLoader:
        return self.train_dataloader()

    def predict_dataloader(self) -> DataLoader:
        return self.train_dataloader()


def _batch(samples: list[tuple[str, Tensor]]) -> Numbers:
    return {"key": [key for key, _ in samples], "x": torch.stack([x for _, x in samples])}
