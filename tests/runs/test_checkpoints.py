"""When a run saves."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from mmfound.callbacks import Divergence
from mmfound.errors import ConfigError
from mmfound.runs import durable
from mmfound.runs.agreement import Agreement
from mmfound.runs.checkpoint_io import DurableIO
from mmfound.runs.checkpoints import Checkpoints
from mmfound.runs.failing import Failing
from mmfound.runs.saved import Saving, by_step, newest

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),
    pytest.mark.filterwarnings("ignore:Total length of `list`"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


class Line(LightningModule):
    """Its validation loss is the next of `values`."""

    def __init__(self, values: tuple[float, ...]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.values = list(values)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.weight * batch.sum()

    def on_validation_epoch_end(self) -> None:
        self.log("val/loss", self.values.pop(0) if self.values else 0.0)

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Saves(Checkpoints):
    """Writes down at which step it saved, how many validations had ended by then, and why."""

    def __init__(self, run: Path, saving: Saving) -> None:
        self.agreement = Agreement()
        super().__init__(run, saving, self.agreement, Divergence(), Failing(run, self.agreement))
        self.saves: list[tuple[int, int]] = []
        self.kinds: list[str] = []
        self.validations = 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validations += 1
        super().on_validation_end(trainer, pl_module)

    def _save(self, trainer: Trainer, kind: Any) -> None:
        self.saves.append((trainer.global_step, self.validations))
        self.kinds.append(kind)
        super()._save(trainer, kind)


def train(saves: Saves, *, validates: bool = True, values: tuple[float, ...] = (), **arguments: Any) -> Trainer:
    loader = torch.utils.data.DataLoader(torch.ones(20), batch_size=2)
    trainer = Trainer(
        accelerator="cpu",
        callbacks=[saves.agreement, saves],
        plugins=[DurableIO()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **{"check_val_every_n_epoch": None, **arguments},
    )
    trainer.fit(Line(values), loader, loader if validates else [])
    return trainer


def test_saves_at_the_interval_and_the_last_step_after_their_validation(tmp_path: Path):
    saves = Saves(tmp_path, Saving(every_n_steps=2))
    train(saves, max_steps=7, val_check_interval=4)
    assert saves.saves == [(2, 0), (4, 1), (6, 1), (7, 1)]
    assert saves.kinds == ["interval", "interval", "interval", "last"]
    saves = Saves(tmp_path / "even", Saving(every_n_steps=3))
    train(saves, max_steps=8, val_check_interval=4)
    assert saves.saves == [(3, 0), (6, 1), (8, 2)]


def test_waits_for_the_first_validation_after_some_epochs_too(tmp_path: Path):
    saves = Saves(tmp_path, Saving(every_n_steps=10))
    train(saves, max_epochs=2, check_val_every_n_epoch=2)
    assert saves.saves == [(10, 0), (20, 1)]


@pytest.mark.parametrize("name", ["keep", "every_n_steps", "keep_every_n_steps"])
def test_what_would_keep_nothing_is_refused(name: str):
    with pytest.raises(ConfigError, match=f"checkpoints.{name} is -1; it must be at least 1"):
        Saving(**{name: -1})


def test_a_metric_that_is_not_logged_is_no_monitor(tmp_path: Path):
    saves = Saves(tmp_path, Saving(every_n_steps=2, monitor="val/los"))
    with pytest.raises(ConfigError, match="'val/los', which is not logged; there are val/loss"):
        train(saves, max_steps=4, val_check_interval=2)
    assert list(by_step(tmp_path)) == [2]


def test_without_validation_data_no_save_is_late(tmp_path: Path):
    saves = Saves(tmp_path, Saving(every_n_steps=2))
    train(saves, max_steps=5, val_check_interval=2, validates=False)
    assert saves.saves == [(2, 0), (4, 0), (5, 0)]


def test_keeps_the_newest_and_the_milestones_and_links_the_last(tmp_path: Path):
    train(Saves(tmp_path, Saving(every_n_steps=1, keep=3, keep_every_n_steps=4)), max_steps=12, limit_val_batches=0)
    assert list(by_step(tmp_path)) == [4, 8, 10, 11, 12]
    assert newest(tmp_path) == tmp_path / "checkpoints" / "step=00000012.ckpt"
    assert (tmp_path / "checkpoints" / "last.ckpt").resolve() == newest(tmp_path)
    assert all(durable.damage(path) is None for path in by_step(tmp_path).values())


def test_the_best_stays_and_is_linked(tmp_path: Path):
    saves = Saves(tmp_path, Saving(every_n_steps=100, keep=1, monitor="val/loss"))
    train(saves, max_steps=8, val_check_interval=2, values=(3.0, 1.0, float("nan"), 2.0))
    assert list(by_step(tmp_path)) == [4, 8]
    best = tmp_path / "checkpoints" / "best.ckpt"
    assert best.resolve().name == "step=00000004.ckpt"
    assert durable.manifest(best.resolve())["monitor"] == 1.0


def test_time_makes_a_save_due_too(tmp_path: Path):
    saves = Saves(tmp_path, Saving(every_n_steps=100, every_n_minutes=0.0))
    train(saves, max_steps=3, limit_val_batches=0)
    assert [step for step, _ in saves.saves] == [1, 2, 3]


def test_a_run_that_ends_by_epochs_saves_its_last_step(tmp_path: Path):
    saves = Saves(tmp_path, Saving(every_n_steps=100))
    train(saves, max_epochs=1, limit_val_batches=0)
    assert saves.saves == [(10, 0)]


def test_accumulated_batches_save_once_a_step(tmp_path: Path):
    saves = Saves(tmp_path, Saving(every_n_steps=1))
    train(saves, max_steps=3, accumulate_grad_batches=2, limit_val_batches=0)
    assert [step for step, _ in saves.saves] == [1, 2, 3]


def test_names_that_are_not_ours_are_not_counted(tmp_path: Path):
    (tmp_path / "checkpoints").mkdir()
    for name in ("last.ckpt", "step=5.ckpt.tmp", "best.ckpt", "step=x.ckpt"):
        (tmp_path / "checkpoints" / name).touch()
    assert newest(tmp_path) is None
