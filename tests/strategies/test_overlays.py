"""Every overlay of `recipes/machines` on two CPU processes, from its own YAML, against DDP."""

from pathlib import Path

import pytest
import torch

from mmfound.cli.recipes import find
from mmfound.runs import durable
from tests.strategies.fits import CUT, OFFLOAD, SHARDED, compiled, fit, run
from tests.strategies.runs import exported, last, log, losses, metric, summary

PRECISIONS = {  # overlay of strategy, and of precision
    "ddp": ("bf16_mixed", "bf16_true"),
    "fsdp2": ("bf16_mixed", "bf16_true"),
    "deepspeed_zero1": ("bf16_mixed",),
    "deepspeed_zero2": ("bf16_true",),
    "deepspeed_zero3": ("bf16_mixed",),
}
CLOSE = 3e-6  # relative; the order of sums differs
pytestmark = pytest.mark.timeout(1200)


@pytest.mark.parametrize("overlay", SHARDED)
def test_losses_norms_and_evaluations_are_those_of_ddp(root: Path, overlay: str):
    compiled(overlay)
    for name in ("train/loss", "train/grad_norm", "train/logit_scale", "val/loss", "val/zero_shot_top5"):
        expected = metric(root / "ddp", name)
        assert len(expected) >= 5
        assert metric(root / overlay, name) == pytest.approx(expected, rel=CLOSE), name


@pytest.mark.parametrize("overlay", SHARDED)
def test_weights_moments_average_and_export_are_those_of_ddp(root: Path, overlay: str):
    compiled(overlay)
    mine, ddp = last(root / overlay), last(root / "ddp")
    assert mine["state_dict"].keys() == ddp["state_dict"].keys()
    assert mine["ema"]["average"].keys() == ddp["ema"]["average"].keys()
    torch.testing.assert_close(mine["state_dict"], ddp["state_dict"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(mine["ema"]["average"], ddp["ema"]["average"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(exported(root / overlay), exported(root / "ddp"), rtol=1e-4, atol=1e-6)
    for number, moments in ddp["optimizer_states"][0]["state"].items():
        torch.testing.assert_close(mine["optimizer_states"][0]["state"][number], moments, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("overlay", [overlay for overlay in CUT if overlay != OFFLOAD])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(root: Path, overlay: str):
    assert losses(root / f"{overlay}_cut") == losses(root / overlay)
    assert log(root / f"{overlay}_cut") == log(root / overlay)


def test_a_run_with_offload_goes_on_as_before(root: Path):
    """DeepSpeed's Adam for the host multiplies powers of its betas up, and takes them anew when it goes on."""
    compiled(OFFLOAD)
    assert metric(root / f"{OFFLOAD}_cut", "train/loss") == pytest.approx(
        metric(root / OFFLOAD, "train/loss"), rel=CLOSE
    )


@pytest.mark.parametrize("overlay", ["ddp", *SHARDED])
def test_the_scale_is_held_below_its_bound(root: Path, overlay: str):
    compiled(overlay)
    scales = metric(root / overlay, "train/logit_scale")
    assert scales[0] == pytest.approx(1 / 0.07)
    assert all(scale <= 14.2 * (1 + 1e-6) for scale in scales[1:])
    assert scales[1] == pytest.approx(14.2), "the master was clamped, not only what is computed with"


def test_what_the_memory_held_before_does_not_matter(tmp_path: Path):
    """A rank's last slice is padded where sizes are odd, and DeepSpeed takes memory for that as it finds it."""
    small = ["--trainer.strategy.init_args.config.zero_optimization.reduce_bucket_size", "100000"]
    fits = [fit(tmp_path, "deepspeed_zero3", *small, "--trainer.max_steps", steps) for steps in "35"]
    assert run(2, [(options, {"DIRTY_MEMORY": "1"}) for options, _ in fits]) == [0, 0]


@pytest.mark.parametrize("overlay", SHARDED)
def test_what_is_frozen_stays_and_has_no_average(root: Path, overlay: str):
    compiled(overlay)
    name = "encoder.text_tower.tower.token_embedding.weight"
    checkpoint = last(root / overlay)
    assert torch.equal(checkpoint["state_dict"][name], last(root / "ddp")["state_dict"][name])
    assert name not in checkpoint["ema"]["average"]


def test_clipping_matters_here(root: Path):
    assert metric(root / "unclipped", "train/loss")[-1] != pytest.approx(
        metric(root / "ddp", "train/loss")[-1], rel=1e-3
    )


@pytest.mark.parametrize("overlay", SHARDED)
def test_checkpoints_are_whole_folders_with_manifests(root: Path, overlay: str):
    compiled(overlay)
    folder = root / overlay / "checkpoints"
    found = sorted(path for path in folder.glob("step=*.ckpt"))
    assert [path.name for path in found] == ["step=00000018.ckpt", "step=00000020.ckpt"]
    assert all(path.is_dir() and durable.damage(path) is None for path in found)
    assert (folder / "last.ckpt").resolve() == found[-1]
    assert not list(folder.glob(".*partial*"))


def test_precisions(tmp_path: Path):
    short = ["--trainer.max_steps", "12"]
    fits = [
        fit(tmp_path / f"{overlay}.{precision}", overlay, "--config", f"machines/{precision}", *short)
        for overlay, precisions in PRECISIONS.items()
        for precision in precisions
    ]
    assert run(2, fits) == [0] * len(fits)
    expected = {precision: metric(tmp_path / f"ddp.{precision}", "val/loss") for precision in PRECISIONS["ddp"]}
    for overlay, precisions in PRECISIONS.items():
        for precision in precisions:
            assert metric(tmp_path / f"{overlay}.{precision}", "val/loss") == pytest.approx(
                expected[precision], rel=0.01
            )


def test_one_process(tmp_path: Path):
    fits = [fit(tmp_path / name, name, "--trainer.max_steps", "3", ranks=1) for name in ("cpu", "ddp", "fsdp2")]
    fits += [fit(tmp_path / "zero", "deepspeed_zero3", "--trainer.max_steps", "3", ranks=1)]
    assert run(1, fits) == [0] * len(fits)
    assert metric(tmp_path / "fsdp2", "train/loss") == pytest.approx(metric(tmp_path / "cpu", "train/loss"), rel=CLOSE)
    assert metric(tmp_path / "zero", "train/loss") == pytest.approx(metric(tmp_path / "cpu", "train/loss"), rel=CLOSE)


def test_a_gpu_that_is_not_there(tmp_path: Path):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    options, environment = fit(tmp_path / "gpu", "cpu", ranks=1)
    options = [word for word in options if word not in ("--trainer.accelerator", "cpu")]
    assert run(1, [([*options, "--config", "machines/gpu"], environment)]) == [2]
    assert "gpu" in summary(tmp_path / "gpu")["exit_reason"]


def test_every_overlay_is_here():
    overlays = {path.stem for path in find("machines/cpu").parent.glob("*.yaml")}
    precisions = {name for names in PRECISIONS.values() for name in names}
    assert overlays == {"cpu", "gpu", "ddp", *SHARDED, *precisions}
