"""The number of processes is the launcher's, and a recipe that says something else is refused."""

import os
from types import SimpleNamespace

import pytest
import torch

from mmfound.cli import ranks
from mmfound.errors import ConfigError

STEP = {"NTASKS": "8", "NTASKS_PER_NODE": "4", "NNODES": "2", "STEP_ID": "0", "JOB_NAME": "a", "JOB_ID": "7"}


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("SLURM_", "TORCHELASTIC_")):
            monkeypatch.delenv(name)


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch):
    """Puts the test in a step of eight tasks on two nodes, but for changes."""

    def put(**changes: str | None) -> None:
        for name, value in {**STEP, **changes}.items():
            if value is not None:
                monkeypatch.setenv(f"SLURM_{name}", value)

    return put


def trainer(devices: object = "auto", num_nodes: int = 1, accelerator: str = "cpu") -> SimpleNamespace:
    return SimpleNamespace(devices=devices, num_nodes=num_nodes, accelerator=accelerator)


def test_without_a_launcher_the_recipe_is_left_alone():
    assert ranks.launched(trainer(2)) == {}


def test_slurm_fills_in_what_the_recipe_leaves_out(step):
    step()
    assert ranks.launched(trainer()) == {"devices": 4, "num_nodes": 2}
    assert ranks.launched(trainer(4, 2)) == {}
    assert ranks.launched(trainer([3, 2, 1, 0])) == {"num_nodes": 2}


def test_a_shell_of_salloc_is_no_launcher(step):
    step(JOB_NAME="interactive")
    assert ranks.launched(trainer(2)) == {}


def test_torchrun_fills_in_what_the_recipe_leaves_out_within_slurm_too(step, monkeypatch: pytest.MonkeyPatch):
    step(NTASKS="2", NTASKS_PER_NODE="1")
    for name, value in {"TORCHELASTIC_RUN_ID": "a", "LOCAL_WORLD_SIZE": "8", "WORLD_SIZE": "16"}.items():
        monkeypatch.setenv(name, value)
    assert ranks.launched(trainer()) == {"devices": 8, "num_nodes": 2}
    with pytest.raises(ConfigError, match=r"trainer.devices is 2, and torchrun starts 8 .*--nproc-per-node"):
        ranks.launched(trainer(2))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (trainer(8), r"trainer.devices is 8, and Slurm starts 4 processes on each node \(--ntasks-per-node\)"),
        (trainer("auto", 4), r"trainer.num_nodes is 4, and Slurm uses 2 nodes \(--nodes\)"),
    ],
)
def test_a_mismatch_names_both_values(recipe: SimpleNamespace, message: str, step):
    step()
    with pytest.raises(ConfigError, match=message):
        ranks.launched(recipe)


def test_a_forgotten_srun_is_named(step):
    step(STEP_ID=None)
    with pytest.raises(ConfigError, match="room for 8 tasks, and this process was started alone; write srun"):
        ranks.launched(trainer())


def test_tasks_must_be_given_for_each_node(step):
    step(NTASKS_PER_NODE=None)
    with pytest.raises(ConfigError, match="--ntasks-per-node instead"):
        ranks.launched(trainer())


@pytest.mark.parametrize(("seen", "message"), [(8, "--ntasks-per-node=8"), (1, "--gpus-per-node=4")])
def test_tasks_and_gpus_must_match(seen: int, message: str, step, monkeypatch: pytest.MonkeyPatch):
    step()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: seen)
    with pytest.raises(ConfigError, match=f"starts 4 tasks on each node, and each of them sees {seen} GPUs.*{message}"):
        ranks.launched(trainer(accelerator="gpu"))
