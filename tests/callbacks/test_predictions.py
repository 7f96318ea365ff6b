"""`predict` writes what the model says of every sample, in the source's order."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mmfound.cli import main
from mmfound.data import Digits


def test_predict_writes_unit_embeddings_of_every_sample(tmp_path: Path):
    options = ["--config", "clip/digits", "--run_dir", str(tmp_path), "--data.workers", "0", "--evaluators", "[]"]
    assert main(["fit", *options, "--trainer.max_steps", "2"]) == 0
    assert main(["predict", *options]) == 0
    found = load_file(tmp_path / "predictions" / "rank_0.safetensors")
    keys = (tmp_path / "predictions" / "rank_0.txt").read_text().split()
    source = Digits(split="test")
    assert keys == [source[index]["key"] for index in range(len(source))]
    for name in ("image_embedding", "text_embedding"):
        assert found[name].shape == (len(source), 64)
        assert torch.allclose(found[name].norm(dim=1), torch.ones(len(source)), atol=1e-5)
    assert found["image_embedding"].std(dim=0).max() > 1e-3


def test_a_task_without_abilities_is_refused():
    from mmfound.errors import ConfigError
    from mmfound.optim import Constant, Optim
    from mmfound.tasks import Task

    with pytest.raises(ConfigError, match="Task neither embeds nor classifies"):
        Task(Optim(torch.optim.SGD, Constant())).predict_step({"key": []}, 0)


def test_predictions_of_another_kind_are_refused_by_name(tmp_path: Path):
    from mmfound.callbacks import Predictions
    from mmfound.errors import ConfigError

    with pytest.raises(ConfigError, match="predict_step of Identity returned str"):
        Predictions(tmp_path).on_predict_batch_end(None, torch.nn.Identity(), "a", {"key": ["1"]}, 0)
