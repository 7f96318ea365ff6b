"""What a command starts from."""

import pytest

from mmfound.cli import start


@pytest.mark.parametrize(
    ("numbers", "first"),
    [
        ({"NODE_RANK": "0"}, True),
        ({"NODE_RANK": "1"}, False),
        ({"GROUP_RANK": "2"}, False),
        ({"SLURM_NODEID": "1"}, False),
        ({"SLURM_NODEID": "1", "GROUP_RANK": "0"}, True),  # torchrun within Slurm numbers its hosts itself
        ({"OTHER": "1"}, True),
    ],
)
def test_only_the_first_host_owns_the_folder(numbers: dict[str, str], first: bool, monkeypatch: pytest.MonkeyPatch):
    for known in ("NODE_RANK", "GROUP_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_NODEID"):
        monkeypatch.delenv(known, raising=False)
    for name, number in numbers.items():
        monkeypatch.setenv(name, number)
    assert start.is_first_host() is first
