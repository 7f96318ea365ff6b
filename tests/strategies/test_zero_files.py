"""DeepSpeed's files, read by us and by DeepSpeed's own tools."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmfound.strategies.whole import whole_checkpoint

pytestmark = pytest.mark.timeout(1200)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_weights_are_those_of_zero_to_fp32(root: Path, stage: int):
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    folder = root / f"deepspeed_zero{stage}" / "checkpoints" / "step=00000020.ckpt"
    expected = get_fp32_state_dict_from_zero_checkpoint(str(folder), tag="checkpoint")
    mine = whole_checkpoint(folder)["state_dict"]
    assert set(expected) <= set(mine)
    assert sum("weight" in name for name in expected) > 10
    for name, tensor in expected.items():
        assert torch.equal(mine[name], tensor), name


@pytest.mark.parametrize("stage", [2, 3])
def test_moments_are_those_of_the_universal_checkpoint(root: Path, tmp_path: Path, stage: int):
    folder = root / f"deepspeed_zero{stage}" / "checkpoints" / "step=00000020.ckpt"
    command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state"]
    command += ["--input_folder", str(folder / "checkpoint"), "--output_folder", str(tmp_path / "universal")]
    command += ["--num_extract_workers", "1", "--num_merge_workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    checkpoint = whole_checkpoint(folder)
    state = checkpoint["optimizer_states"][0]
    groups = torch.load(folder / "meta.pt", weights_only=True)["optimizer_groups"]
    names = [name for group in groups for name in group["params"]]
    assert len(names) == len(state["state"]) > 10
    for number, name in enumerate(names):
        for kind in ("exp_avg", "exp_avg_sq", "fp32"):
            universal = torch.load(tmp_path / "universal" / "zero" / name / f"{kind}.pt", weights_only=True)
            universal = universal["param"] if isinstance(universal, dict) else universal
            mine = checkpoint["state_dict"][name] if kind == "fp32" else state["state"][number][kind]
            assert torch.equal(universal.view(mine.shape), mine), (name, kind)
