"""Which files of a folder are somebody's weights, and what their configuration says."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmfound.errors import ConfigError, DataError
from mmfound.interop.archive import SUFFIXES, read_tensors

OPEN_CLIP, TRANSFORMERS, PREPROCESSOR = "open_clip_config.json", "config.json", "preprocessor_config.json"
_OURS = "module.yaml"
_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
# GLIDE's noised CLIP has a file for each tower, which share names; these come before them.
TOWERS = {"clip_image_enc.pt": "image_enc.", "clip_text_enc.pt": "text_enc."}
# As open_clip and transformers prefer them.
_NAMES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
)


@dataclass(frozen=True)
class Files:
    """Somebody's weights on the disk.

    Args:
        path: as the user named it.
        folder: that they lie in.
        weights: the files, several where they are split.
        open_clip: what `open_clip_config.json` says; empty where there is none.
        transformers: the same of `config.json`.
    """

    path: Path
    folder: Path
    weights: tuple[Path, ...]
    open_clip: dict[str, Any]
    transformers: dict[str, Any]

    def json(self, name: str) -> dict[str, Any]:
        """Another JSON file of the folder; empty where there is none."""
        return read_json(self.folder / name)


def is_foreign(path: Path) -> bool:
    """Whether a path names a weight file, or a folder of such that is no export of ours."""
    if path.is_dir() and not (path / _OURS).is_file():
        return any((path / name).is_file() for name in (OPEN_CLIP, *_INDICES, *_NAMES)) or bool(_loose(path))
    return path.is_file() and path.name != _OURS


def is_noised_clip(files: Files) -> bool:
    """Whether they are the two towers of GLIDE's noised CLIP."""
    return [path.name for path in files.weights] == list(TOWERS)


def find(path: Path) -> Files:
    """The weights that a path names.

    Raises:
        ConfigError: when there are none, or several.
    """
    folder = path if path.is_dir() else path.parent
    weights = _of_folder(path) if path.is_dir() else (path,)
    if weights[0].name in TOWERS:
        weights = _both_towers(folder)
    return Files(path, folder, weights, read_json(folder / OPEN_CLIP), read_json(folder / TRANSFORMERS))


def read(files: Files) -> dict[str, Tensor]:
    """All tensors by name, not yet read from the disk."""
    found: dict[str, Tensor] = {}
    for path in files.weights:
        prefix = TOWERS[path.name] if is_noised_clip(files) else ""
        found |= {prefix + name: tensor for name, tensor in read_tensors(path).items()}
    return found


def shapes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same without values."""
    return {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file.

    Raises:
        ConfigError: when it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is damaged and cannot be read; copy or download it again ({error})") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds a {type(content).__name__}, not a configuration; copy or download it again")
    return content


def _of_folder(folder: Path) -> tuple[Path, ...]:
    for name in _NAMES:
        if (folder / name).is_file():
            return (folder / name,)
    for name in _INDICES:
        if (folder / name).is_file():
            return _shards(folder / name)
    towers = tuple(folder / name for name in TOWERS if (folder / name).is_file())
    if towers:
        return towers
    loose = _loose(folder)
    if len(loose) == 1:
        return (loose[0],)
    held = ", ".join(path.name for path in loose) or "none of them"
    raise ConfigError(
        f"{folder} holds no weights under a name that is known ({', '.join(_NAMES)}), and of others {held}; name the "
        "file itself"
    )


def _both_towers(folder: Path) -> tuple[Path, ...]:
    missing = [name for name in TOWERS if not (folder / name).is_file()]
    if missing:
        raise ConfigError(
            f"{folder} holds one tower of GLIDE's noised CLIP and lacks {missing[0]}; put the other beside it"
        )
    return tuple(folder / name for name in TOWERS)


def _loose(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file())


def _shards(index: Path) -> tuple[Path, ...]:
    names = sorted(set(read_json(index).get("weight_map", {}).values()))
    wrong = [name for name in names if not isinstance(name, str) or Path(name).name != name]
    if not names or wrong:
        raise ConfigError(f"{index} names {wrong or 'no files'} as parts; copy or download it again")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise DataError(f"{index.parent} lacks {missing[0]}, one of {len(missing)} parts missing; copy it again")
    return tuple(index.parent / name for name in names)
