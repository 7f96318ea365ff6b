from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mmfound.callbacks import ExportWeights
from mmfound.callbacks.export_weights import exported_name
from mmfound.errors import ConfigError
from mmfound.tasks import Contrastive
from mmfound.weights import describe, pretrained
from tests.callbacks.fakes import IGNORED, Data, NoisyTask, make_trainer
from tests.test_weights import encoder

pytestmark = IGNORED

LINEAR = {"class_path": "torch.nn.Linear", "init_args": {"in_features": 3, "out_features": 1}}


def fit(tmp_path: Path, callback: ExportWeights) -> NoisyTask:
    module, data = NoisyTask(nn.Linear(3, 1)), Data(val=True)
    data.tokenizer = None
    make_trainer(tmp_path, [callback]).fit(module, datamodule=data)
    return module


def test_fit_ends_with_an_export_of_the_trained_module(tmp_path: Path):
    module = fit(tmp_path, ExportWeights({"class_path": "NoisyTask", "init_args": {"network": LINEAR}}))
    again = pretrained(tmp_path / "export")
    torch.testing.assert_close(again.state_dict(), module.network.state_dict(), rtol=0, atol=0)
    assert describe(tmp_path / "export")["class_path"] == "torch.nn.Linear"


def test_without_a_config_the_one_that_the_run_keeps_is_used(tmp_path: Path):
    import yaml

    kept = {"model": {"class_path": "NoisyTask", "init_args": {"network": LINEAR}}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(kept))
    fit(tmp_path, ExportWeights())
    assert isinstance(pretrained(tmp_path / "export"), nn.Linear)


def test_contrastive_exports_its_encoder():
    optim: Any = None
    assert exported_name(Contrastive(encoder(), optim)) == "encoder"


def test_a_task_with_several_modules_says_which_one(tmp_path: Path):
    class Two(nn.Module):
        def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
            super().__init__()
            self.student, self.teacher = student, teacher

    two = Two(nn.Linear(1, 1), nn.Linear(1, 1))
    with pytest.raises(ConfigError, match=r"Two has the modules \['student', 'teacher'\]"):
        exported_name(two)
    two.export_module = "student"  # pyright: ignore
    assert exported_name(two) == "student"
