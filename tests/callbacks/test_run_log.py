import csv
from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from mmfound.callbacks import LogHyperparameters, Progress, RunLog
from mmfound.callbacks.hyperparameters import flattened
from mmfound.callbacks.run_log import gradient_norm
from tests.callbacks.fakes import IGNORED, Data, NoisyTask, make_trainer

pytestmark = IGNORED


def fit(tmp_path: Path, log: RunLog, steps: int, checkpoint: Path | None = None) -> list[dict[str, str]]:
    logger = CSVLogger(tmp_path, name="logs", version=str(steps), flush_logs_every_n_steps=1)
    trainer = make_trainer(tmp_path, [log], max_steps=steps, logger=logger)
    trainer.fit(NoisyTask(nn.Linear(3, 1)), datamodule=Data(val=True), ckpt_path=checkpoint)
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    with open(tmp_path / f"logs/{steps}/metrics.csv", newline="") as file:
        return [row for row in csv.DictReader(file) if row.get("train/lr")]


def test_every_log_has_rate_norm_and_throughput(tmp_path: Path):
    rows = fit(tmp_path, RunLog(), 6)
    assert [float(row["train/samples"]) for row in rows] == [8, 16, 24]
    assert all(float(row["train/lr"]) == pytest.approx(0.1) for row in rows)
    assert all(float(row["train/grad_norm"]) > 0 for row in rows)
    assert all(float(row["train/samples_per_second"]) > 0 for row in rows)
    assert all(float(row["train/data_wait_share"]) == 0 for row in rows)


def test_totals_add_up_over_the_starts_of_a_run(tmp_path: Path):
    fit(tmp_path, RunLog(), 3)
    log = RunLog()
    fit(tmp_path, log, 5, tmp_path / "saved.ckpt")
    totals = log.totals()
    assert (totals["steps"], totals["samples"]) == (5, 20)
    assert totals["samples_per_second"] == pytest.approx(8 / (totals["seconds"] - log._start.seconds), rel=1e-6)


def test_gradient_norm_is_that_of_all_gradients_together():
    module = nn.Linear(3, 2)
    module(torch.ones(1, 3)).sum().backward()
    stacked = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
    torch.testing.assert_close(gradient_norm(module), stacked.norm())
    assert gradient_norm(nn.Linear(1, 1)) is None


@pytest.mark.parametrize("lines", [True, False])
def test_progress_tells_steps_samples_and_time_left(tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: bool):
    make_trainer(tmp_path, [Progress(every_s=0.0, lines=lines)]).fit(
        NoisyTask(nn.Linear(3, 1)), datamodule=Data(val=True)
    )
    told = capsys.readouterr().out
    assert "step 6/6" in told
    assert "samples/s" in told
    assert "waiting for data" in told
    assert "step 3: val/loss" in told
    assert not lines or "0:00:00 left" in told


def test_flattened_names_are_dotted_and_values_plain():
    config = {"a": {"b": [1, {"c": None}]}, "d": True, "e": []}
    assert dict(flattened(config)) == {"a.b.0": 1, "a.b.1.c": "None", "d": True, "e": "[]"}


def test_hyperparameters_and_final_metrics_reach_tensorboard(tmp_path: Path):
    from lightning.pytorch.loggers import TensorBoardLogger
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path, name="", version="", default_hp_metric=False)
    callback = LogHyperparameters({"data": {"global_batch_size": 4}})
    make_trainer(tmp_path, [callback], logger=logger).fit(NoisyTask(nn.Linear(3, 1)), datamodule=Data(val=True))
    plugins = {}
    for file in tmp_path.glob("events*"):
        events = EventAccumulator(str(file)).Reload()
        plugins |= events.summary_metadata
    assert any(name.startswith("_hparams_") for name in plugins)
