"""What this machine and environment have, without importing torch."""

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import mmfound
from mmfound.cli import plugins
from mmfound.runs.environment import cpu_count, disk_free, gpus, memory_bytes, package_versions

EXTRAS = {  # extra -> a package that only it brings
    "arrow": "datasets",
    "demo": "gradio",
    "export": "diffusers",
    "metrics": "pycocoevalcap",
    "pretrained": "open_clip_torch",
}
VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"


def facts() -> Iterator[tuple[str, str]]:
    """Name and value of every line."""
    yield "mmfound", f"{mmfound.__version__} ({Path(mmfound.__file__).parent})"
    yield "python", f"{platform.python_version()} ({sys.executable})"
    yield "system", platform.platform()
    for name, found in package_versions().items():
        yield name, found or "missing: pip install mmfound"
    yield "CPU cores", str(cpu_count())
    yield "memory", _gib(memory_bytes())
    yield "shared memory", _shared_memory()
    yield "disk free here", _gib(disk_free(Path.cwd()))
    devices = gpus()
    yield "GPU", "; ".join(devices) if devices else "none (nvidia-smi finds none)"
    for extra, package in EXTRAS.items():
        yield f"extra {extra}", _extra(extra, package)
    yield "CLIP vocabulary", str(clip_vocabulary() or "not found: pip install 'mmfound[pretrained]', or give its path")
    yield from (("plug-in", line) for line in plugins.report() or ["none"])


def clip_vocabulary() -> Path | None:
    """CLIP's vocabulary file in the installed open_clip package, found without importing it."""
    spec = find_spec("open_clip")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / VOCABULARY).is_file():
            return Path(folder) / VOCABULARY
    return None


def _extra(name: str, package: str) -> str:
    try:
        return f"installed ({package} {version(package)})"
    except PackageNotFoundError:
        return f"not installed: pip install 'mmfound[{name}]'"


def _shared_memory() -> str:
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return "no /dev/shm"
    free = disk_free(folder)
    small = "; too little for worker processes: run containers with --shm-size 8g, or set data.workers 0"
    return f"{_gib(free)} free{small if free < 2**30 else ''}"


def _gib(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 2**30:.1f} GiB"
