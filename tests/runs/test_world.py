"""Which process of how many this is, as launchers say."""

import os

import pytest
from lightning.fabric.plugins.environments import SLURMEnvironment

from mmfound.errors import ConfigError
from mmfound.runs import world


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("SLURM_", "TORCHELASTIC_", "MASTER_")) or name in world._TORCHRUN:
            monkeypatch.delenv(name)


def set_all(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_one_process_is_alone():
    assert world.from_environment() == world.World("none")
    assert world.slurm() == {}


def test_torchruns_variables_are_read(monkeypatch: pytest.MonkeyPatch):
    set_all(monkeypatch, RANK="3", WORLD_SIZE="8", LOCAL_RANK="1", MASTER_ADDR="n1", MASTER_PORT="29500")
    assert world.from_environment() == world.World("variables", 3, 8, 1, "n1", 29500)
    set_all(monkeypatch, TORCHELASTIC_RUN_ID="x", TORCHELASTIC_USE_AGENT_STORE="True")
    assert world.from_environment() == world.World("torchrun", 3, 8, 1, "n1", 29500, store_is_there=True)


def test_sruns_variables_are_read_with_lightnings_address_and_port(monkeypatch: pytest.MonkeyPatch):
    set_all(monkeypatch, SLURM_PROCID="3", SLURM_NTASKS="8", SLURM_NTASKS_PER_NODE="4", SLURM_LOCALID="1")
    set_all(monkeypatch, SLURM_JOB_ID="123456", SLURM_JOB_NODELIST="n[07-08]", SLURM_NODELIST="n[07-08]")
    assert world.from_environment() == world.World("none")  # the batch script itself
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    found = world.from_environment()
    assert found == world.World("srun", 3, 8, 1, "n07", 18456)
    theirs = SLURMEnvironment()
    assert (theirs.main_address, theirs.main_port, theirs.global_rank()) == (found.address, found.port, found.rank)


@pytest.mark.parametrize("hosts", ["n1", "n1,n2", "n[3-4]", "n[03,07-9],g1", "g1-a[5]", "a[1-2],b[3-4]"])
def test_the_first_host_is_lightnings(hosts: str):
    assert world.first_host(hosts) == SLURMEnvironment.resolve_root_node_address(hosts)


def test_a_variable_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch):
    set_all(monkeypatch, RANK="one", WORLD_SIZE="8", MASTER_ADDR="n1", MASTER_PORT="29500")
    with pytest.raises(ConfigError, match="RANK=one"):
        world.from_environment()
