"""Every command in the README and the docs is one that works."""

import gzip
import re
import shlex
from itertools import islice
from pathlib import Path

import pytest
import torch
from PIL import Image

from mmfound.cli import main
from mmfound.evaluation.prompted import Prompted
from mmfound.evaluation.selection import Spread
from mmfound.text import TrainedBpe
from tests.embedding.tiny import photos, tiny_export
from tests.generating.stages import STAND_INS, clip_export, stage_export
from tests.interop.references import SIZES, transformers_clip
from tests.interop.test_glide_stage import MERGES, released

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Not commands of ours, or run elsewhere: `make` is what calls these tests, tests/test_wheel.py builds and installs,
# tests/cluster submits the job files, tests/resume calls torchrun.
ELSEWHERE = (
    "make ",
    "pip install",
    "python -m build",
    "srun mmfound doctor",  # tests/cli/test_doctor.py
    "torchrun --nproc-per-node 2 -m mmfound doctor",
    "tensorboard --logdir",
    "git clone",
    "cd ",
    "python benchmarks/",
    "OMP_NUM_THREADS=1 python -W ignore benchmarks/",
    "TMPDIR=/dev/shm python benchmarks/",
    "sbatch docs/cluster/",
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 torchrun ",
)
SHORT = [
    "--trainer.max_steps",
    "1",
    "--trainer.val_check_interval",
    "1",
    "--trainer.limit_val_batches",
    "1",
    "--data.workers",
    "0",
    "--data.global_batch_size",
    "16",
]


def commands() -> list[str]:
    found = []
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), flags=re.DOTALL):
            joined = block.replace("\\\n", " ")
            found += [
                " ".join(line.split("#")[0].split()) for line in joined.splitlines() if line.split("#")[0].strip()
            ]
    return sorted(set(found))


def with_stand_ins(arguments: list[str], folder: Path) -> list[str]:
    """An export, pictures and embeddings of them in place of those that the page speaks of."""
    weights, pictures = tiny_export(folder / "export"), photos(folder / "photos")
    given = {"runs/clip/quickstart/export": weights, "photos": pictures, "flowers": pictures}
    if arguments[0] == "search":
        assert main(["embed", weights, pictures, "--to", str(folder / "photos.npy")]) == 0
    if arguments[0] == "score":
        arguments = [*arguments, "--run_dir", str(folder / "run")]
    names = ("photos.npy", "photos.parquet", "captions.npy", "hits.png", "photos/a/00.png")
    return [given.get(word, str(folder / word) if word in names else word) for word in arguments]


def make_stages(arguments: list[str], folder: Path) -> None:
    """Tiny stages where those that a command speaks of would be, a picture, its mask and prompts."""
    for name, config in STAND_INS.items():
        for export in {f"runs/glide/{name}/export", name} & {*arguments}:
            stage_export(folder / export, config)
    clip_export(folder / "runs/glide/shapes_noised_clip/export")
    photos(folder, count=1)
    (folder / "a" / "00.png").rename(folder / "photo.png")
    mask = Image.new("L", (24, 20))
    mask.paste(255, (5, 5, 12, 9))
    mask.save(folder / "mask.png")
    (folder / "prompts.txt").write_text("a red square\na blue circle\n")


def make_released(path: str, folder: Path) -> None:
    """A tiny file in GLIDE's released layout, and its vocabulary."""
    (folder / "weights").mkdir()
    torch.save(released(Path(path).stem), folder / path)
    (folder / "weights" / "vocab.bpe.gz").write_bytes(gzip.compress(MERGES.encode()))


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("mmfound ")])
def test_documented_command_works(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request):
    monkeypatch.chdir(ROOT)
    arguments = shlex.split(command)[1:]
    if any(name in command for name in ("../shared", "grocery", "fashion", "emoji")):
        request.getfixturevalue("shared_data")
    if any(name in command for name in ("glide/fashion", "glide/emoji")):
        tmp_path = beside_shared(request.getfixturevalue("shared_data"), tmp_path)
        work_in(tmp_path, monkeypatch)
    if arguments[0] == "interpolate":
        for folder in arguments[1:3]:
            make_export("clip/digits", Path(folder).parent, tmp_path, monkeypatch)
    if arguments[0] in ("fit", "validate", "test"):
        few_pictures(monkeypatch)
        few_captions(monkeypatch)
        for option, recipe in zip(arguments, arguments[1:], strict=False):
            if option == "--config":
                make_needed(recipe, tmp_path, monkeypatch)
    if arguments[0] == "fit":
        arguments += [*SHORT, "--run_dir", str(tmp_path)]
    if arguments[0] in ("validate", "test", "predict"):
        options = [*SHORT, "--run_dir", str(tmp_path)]
        assert main(["fit", *arguments[1:], *options, "--evaluators", "[]"]) == 0
        arguments += options
    if arguments[0] == "convert":
        run, sharded = str(tmp_path / "run"), ["--config", "clip/digits", "--config", "machines/fsdp2"]
        assert main(["fit", *sharded, *SHORT, "--run_dir", run]) == 0
        arguments[1] = run
        if "--export" in arguments:
            arguments[arguments.index("--export") + 1] = str(tmp_path / "export")
    if arguments[0] == "export" and "--vocabulary" in arguments:
        make_released(arguments[1], tmp_path)
        monkeypatch.chdir(tmp_path)
    elif arguments[0] == "export":
        transformers_clip(SIZES["ViT-B-32"]).save_pretrained(tmp_path / "weights")
        arguments[1] = str(tmp_path / "weights")
        arguments[arguments.index("--to") + 1] = str(tmp_path / "exported")
    if arguments[0] == "generate":
        make_stages(arguments, tmp_path)
        monkeypatch.chdir(tmp_path)
    if arguments[0] in ("embed", "search", "score"):
        arguments = with_stand_ins(arguments, tmp_path)
    if "--out" in arguments:
        arguments[arguments.index("--out") + 1] = str(tmp_path / "out.png")
    assert main(arguments) == 0


def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four in place of the hundreds that a recipe has drawn and scored."""
    scores = "mmfound.evaluation"
    monkeypatch.setattr(f"{scores}.attribute_score.Prompted", lambda source, _, **how: Prompted(source, 4, **how))
    monkeypatch.setattr(f"{scores}.upscaling.Spread", lambda source, _: Spread(source, 4))
    monkeypatch.setattr(f"{scores}.sample_distances.Spread", lambda source, _: Spread(source, 8))


def few_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five thousand to learn a vocabulary from, in place of half a million."""
    prepare = TrainedBpe.prepare
    monkeypatch.setattr(
        TrainedBpe, "prepare", lambda self, captions, folder: prepare(self, lambda: islice(captions(), 5000), folder)
    )


def make_needed(recipe: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a recipe begins with the export of another, work in a folder that has it, from one step of training."""
    path = ROOT / "recipes" / f"{recipe}.yaml"
    if not path.is_file():
        return
    for run, first in re.findall(r"^# Needs (\S+)/export: mmfound fit --config (\S+)$", path.read_text(), flags=re.M):
        if not (folder / run / "export").is_dir():
            make_export(first, Path(run), folder, monkeypatch)


def make_export(recipe: str, run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train a step into a run folder below a working folder, which the test is in from then on."""
    work_in(folder, monkeypatch)
    assert main(["fit", "--config", recipe, *SHORT, "--run_dir", str(run)]) == 0


def work_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    if not (folder / "recipes").exists():
        (folder / "recipes").symlink_to(ROOT / "recipes")


def beside_shared(shared_data: Path, folder: Path) -> Path:
    """A working folder beside the data sets, with Fashion-MNIST's files where its recipes look; test pictures alone."""
    work = folder / "work"
    raw = work / "data" / "fashion_mnist" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    (folder / "shared").symlink_to(shared_data.parent)
    for packed in (shared_data / "fashion_mnist_idx" / "FashionMNIST" / "raw").glob("t10k-*.gz"):
        for split in ("t10k", "train"):
            (raw / packed.stem.replace("t10k", split)).write_bytes(gzip.decompress(packed.read_bytes()))
    return work


def test_other_commands_are_known():
    unknown = [c for c in commands() if not c.startswith("mmfound ") and not c.startswith(ELSEWHERE)]
    assert unknown == []


def test_job_files_are_those_of_the_page():
    page = (ROOT / "docs" / "cluster.md").read_text()
    shown = re.findall(r"```sh\n(.*?)```", page, flags=re.DOTALL)
    nodes, one = ((ROOT / "docs" / "cluster" / name).read_text() for name in ("nodes.sbatch", "one_node.sbatch"))
    assert shown == [nodes]
    assert one == nodes.replace("Several nodes", "One node").replace("--nodes=4", "--nodes=1")
    named = {
        name for name in re.findall(r"docs/cluster/(\w+\.sbatch)", page) if (ROOT / "docs/cluster" / name).exists()
    }
    assert named == {path.name for path in (ROOT / "docs" / "cluster").iterdir()}
