"""The wheel carries the recipes and runs without a checkout."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return next(folder.glob("*.whl"))


def test_wheel_contains_every_recipe(wheel: Path):
    inside = set(zipfile.ZipFile(wheel).namelist())
    for recipe in (ROOT / "recipes").rglob("*.yaml"):
        assert f"mmfound/_recipes/{recipe.relative_to(ROOT / 'recipes').as_posix()}" in inside


def test_installed_wheel_trains_the_quickstart(wheel: Path, tmp_path: Path):
    # A new environment that borrows only the dependencies of this one; mmfound itself comes from the wheel.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    site = next((tmp_path / "env" / "lib").glob("python*")) / "site-packages"
    zipfile.ZipFile(wheel).extractall(site)
    (site / "borrowed.pth").write_text(f"import site; site.addsitedir({sysconfig.get_paths()['purelib']!r})\n")
    python = tmp_path / "env" / "bin" / "python"
    arguments = ["fit", "--config", "clip/quickstart", "--trainer.max_steps", "2", "--trainer.val_check_interval", "2"]
    small = ["--data.global_batch_size", "8", "--data.workers", "0"]
    run = [python, "-m", "mmfound", *arguments, *small]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "clip" / "quickstart" / "summary.json").is_file()
    where = subprocess.run(
        [python, "-c", "import mmfound; print(mmfound.__file__)"], cwd=tmp_path, capture_output=True, text=True
    )
    assert str(tmp_path) in where.stdout
