from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from mmfound.callbacks import Evaluations, StepSeed
from mmfound.errors import ConfigError
from mmfound.evaluation import ZeroShot
from tests.callbacks.fakes import IGNORED, Data, NoisyTask, Notes, make_trainer
from tests.evaluation.fakes import Colours

pytestmark = IGNORED


def task() -> NoisyTask:
    return NoisyTask(nn.Sequential(nn.Linear(3, 1), nn.Dropout()))


@pytest.mark.parametrize("val", [True, False], ids=["with val_source", "without"])
def test_evaluators_run_at_every_validation_in_eval_mode_without_gradients(tmp_path: Path, val: bool):
    notes, module = Notes(), task()
    trainer = make_trainer(tmp_path, [Evaluations([notes])])
    trainer.fit(module, datamodule=Data(val))
    assert notes.seen == [(False, False)] * 2
    assert module.training
    assert float(trainer.callback_metrics["val/notes_calls"]) == 2
    assert ("val/loss" in trainer.callback_metrics) == val


@pytest.mark.parametrize("val", [True, False], ids=["with val_source", "without"])
@pytest.mark.parametrize("stage", ["validate", "test"])
def test_evaluators_run_in_validate_and_test(tmp_path: Path, val: bool, stage: str):
    notes = Notes(name="")
    trainer = make_trainer(tmp_path, [Evaluations([notes])])
    getattr(trainer, stage)(task(), datamodule=Data(val), verbose=False)
    assert notes.calls == 1
    prefix = {"validate": "val", "test": "test"}[stage]
    assert float(trainer.callback_metrics[f"{prefix}/calls"]) == 1


def test_the_last_step_is_evaluated_when_no_validation_falls_on_it(tmp_path: Path):
    notes = Notes()
    logger = CSVLogger(tmp_path, name="", version="")
    trainer = make_trainer(tmp_path, [Evaluations([notes])], max_steps=5, logger=logger)
    trainer.fit(task(), datamodule=Data(val=True))
    assert notes.calls == 2
    assert float(trainer.callback_metrics["val/notes_calls"]) == 2
    table = (tmp_path / "metrics.csv").read_text().splitlines()
    last = dict(zip(table[0].split(","), table[-1].split(","), strict=True))
    assert (last["step"], float(last["val/notes_calls"])) == ("5", 2.0)


@pytest.mark.parametrize("seeded", [True, False])
def test_evaluators_leave_the_random_numbers_of_training_alone(tmp_path: Path, seeded: bool):
    drawn = []
    for evaluators in ([], [Notes()]):
        torch.manual_seed(0)
        module = task()
        callbacks = [StepSeed(0), Evaluations(evaluators)] if seeded else [Evaluations(evaluators)]
        make_trainer(tmp_path, callbacks).fit(module, datamodule=Data(val=True))
        drawn.append(module.drawn)
    assert drawn[0] == drawn[1]


def test_a_model_without_the_ability_is_refused_before_the_first_step(tmp_path: Path):
    module = task()
    with pytest.raises(
        ConfigError, match="ZeroShot 'zero_shot' needs .* but NoisyTask has no embed_image and no embed"
    ):
        make_trainer(tmp_path, [Evaluations([ZeroShot(Colours())])]).fit(module, datamodule=Data(val=True))
    assert not module.drawn


def test_two_evaluators_with_the_same_metrics_are_refused():
    with pytest.raises(ConfigError, match="two Notes have the name 'notes'"):
        Evaluations([Notes(), Notes()])
    Evaluations([Notes(), Notes(name="others")])


def test_task_and_data_are_afterwards_as_they_were(tmp_path: Path):
    module, data = task(), Data(val=False)
    make_trainer(tmp_path, [Evaluations([Notes()])]).fit(module, datamodule=data)
    assert data.val_dataloader() == []
    assert "validation_step" not in vars(module)
