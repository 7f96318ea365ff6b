"""Folders of checkpoints: damaged, hostile, of another strategy, and on another number of ranks."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mmfound.cli import main
from mmfound.runs import durable
from tests.strategies.fits import RESUME, TINY, fit, run
from tests.strategies.runs import exported, last, log, losses, metric, summary

pytestmark = pytest.mark.timeout(1200)
ZERO, FSDP2 = "deepspeed_zero3", "fsdp2"


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that were stopped in the middle."""
    root = tmp_path_factory.mktemp("stopped")
    assert run(2, [fit(root / name, name, interrupt="after_step:13:SIGTERM:0") for name in (ZERO, FSDP2)]) == [4, 4]
    return root


def copied(path: Path, to: Path) -> Path:
    return Path(shutil.copytree(path, to, symlinks=True))


def newest(run_dir: Path) -> Path:
    return (run_dir / "checkpoints" / "last.ckpt").resolve()


def damage(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 255]))


def test_every_strategy_goes_on_from_every_other(root: Path, tmp_path: Path):
    order = ["deepspeed_zero1", "ddp", FSDP2, ZERO, "deepspeed_zero2", FSDP2, "ddp"]
    stops = [f"after_step:{3 * place + 1}:SIGTERM:0" for place in range(6)]
    fits = [fit(tmp_path / "run", name, interrupt=stop) for name, stop in zip(order, [*stops, ""], strict=True)]
    assert run(2, fits) == [4] * 6 + [0]
    assert metric(tmp_path / "run", "train/loss") == pytest.approx(metric(root / "ddp", "train/loss"), rel=3e-6)
    assert metric(tmp_path / "run", "val/loss") == pytest.approx(metric(root / "ddp", "val/loss"), rel=3e-6)


@pytest.mark.parametrize("name", [ZERO, FSDP2])
def test_one_damaged_file_and_the_one_before_is_taken(root: Path, stopped: Path, tmp_path: Path, name: str):
    cut = copied(stopped / name, tmp_path / "run")
    step = newest(cut)
    second = sorted(durable.manifest(step)["files"])[1]  # which the second rank looks at
    damage(step / second)
    half_written = durable.partial_folder(cut / "checkpoints" / "step=00000016.ckpt")
    copied(step, half_written)
    assert run(2, [fit(cut, name)]) == [0]
    assert losses(cut) == losses(root / name)
    assert log(cut) == log(root / name)
    assert not half_written.exists()


def test_all_damaged_is_refused_and_nothing_is_touched(stopped: Path, tmp_path: Path):
    cut = copied(stopped / ZERO, tmp_path / "run")
    for step in (cut / "checkpoints").glob("step=*.ckpt"):
        (step / "meta.pt").unlink()
    before = sorted(str(path) for path in (cut / "checkpoints").rglob("*"))
    assert run(2, [fit(cut, ZERO)]) == [7]
    assert sorted(str(path) for path in (cut / "checkpoints").rglob("*")) == before


class _Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize(
    ("name", "file"), [(ZERO, "checkpoint/zero_pp_rank_0_mp_rank_00_optim_states.pt"), (FSDP2, ".metadata")]
)
def test_a_checkpoint_that_would_run_code_is_not_opened(
    stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str
):
    monkeypatch.chdir(tmp_path)
    cut = copied(stopped / name, tmp_path / "run")
    path = newest(cut) / file
    if path.name == ".metadata":
        path.write_bytes(pickle.dumps(_Bomb()))
    else:
        torch.save({"optimizer_state_dict": _Bomb()}, path)
    manifest = newest(cut).with_name(newest(cut).name + ".manifest.json")
    facts = json.loads(manifest.read_text())
    facts["files"] |= durable.proof_of(newest(cut), [file])  # whoever wrote it can write that, too
    manifest.write_text(json.dumps(facts))
    assert run(2, [fit(cut, name)]) == [2]
    assert "could run code" in summary(cut)["exit_reason"]
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", [ZERO, FSDP2])
def test_test_scores_the_average_under_the_strategy(root: Path, tmp_path: Path, name: str):
    runs = [copied(root / one, tmp_path / one) for one in (name, "ddp")]
    tests = [fit(one, overlay) for one, overlay in zip(runs, (name, "ddp"), strict=True)]
    assert run(2, [(["test", *options[1:]], environment) for options, environment in tests]) == [0, 0]
    scores = [summary(one)["metrics"]["test/loss"] for one in runs]
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)


@pytest.mark.parametrize("name", [ZERO, FSDP2])
def test_one_process_scores_what_several_have_trained(root: Path, tmp_path: Path, name: str):
    runs = [copied(root / one, tmp_path / one) for one in (name, "ddp")]
    tests = [fit(one, "cpu", ranks=1) for one in runs]
    assert run(1, [(["test", *options[1:]], environment) for options, environment in tests]) == [0, 0]
    scores = [summary(one)["metrics"]["test/loss"] for one in runs]
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)


@pytest.mark.parametrize("name", [ZERO, FSDP2])
def test_convert_makes_one_file_and_an_export(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
):
    for folder in (RESUME, TINY.parent):
        monkeypatch.syspath_prepend(str(folder))
    done = copied(root / name, tmp_path / "run")
    folder, before = newest(done), last(done)
    assert main(["convert", str(done), "--export", str(tmp_path / "export")]) == 0
    torch.testing.assert_close(load_file(tmp_path / "export" / "module.safetensors"), exported(done), rtol=0, atol=0)
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == sorted(
        path.name for path in (done / "export").iterdir()
    )
    assert main(["convert", str(folder), "--to", str(tmp_path / "one.ckpt")]) == 0
    assert folder.is_dir()
    assert main(["convert", str(done)]) == 0
    assert folder.is_file()
    assert durable.damage(folder) is None
    for part in ("state_dict", "optimizer_states", "ema", "lr_schedulers"):
        torch.testing.assert_close(last(done)[part], before[part], rtol=0, atol=0)
    assert "one file already" not in capsys.readouterr().out
    assert main(["convert", str(done)]) == 0
    assert "one file already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["nowhere"], "no checkpoint 'nowhere'"),
        ([".", "--too", "x"], "--too"),
        (["empty"], "no checkpoint yet"),
        (["folder"], "no checkpoint of FSDP2 or DeepSpeed"),
    ],
)
def test_convert_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argv: list[str], says: str
):
    monkeypatch.chdir(tmp_path)
    Path("empty/checkpoints").mkdir(parents=True)
    Path("folder").mkdir()
    torch.save({}, "folder/meta.pt")
    assert main(["convert", *argv]) == 2
    assert says in capsys.readouterr().err


def test_a_stopped_run_is_one_file_and_goes_on_bit_for_bit(root: Path, stopped: Path, tmp_path: Path):
    cut = copied(stopped / ZERO, tmp_path / "run")
    assert main(["convert", str(cut)]) == 0
    assert run(2, [fit(cut, ZERO)]) == [0]
    assert losses(cut) == losses(root / ZERO)
