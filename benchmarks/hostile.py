"""Files that would run code if anything unpickled or imported what they say; `benchmarks/faults.py` counts which do."""

import io
import os
import pickle
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from mmfound.data import TarShards
from mmfound.data.errors import BadSample
from mmfound.errors import UserError
from mmfound.runs import durable, saved
from mmfound.runs.initial import load_initial
from mmfound.weights import pretrained

CALLS = (os.mkdir, os.system, exec, eval, os.makedirs)


class Gadget:
    """Calls a function that leaves `mark` behind, when it is unpickled."""

    def __init__(self, call: Callable[..., Any], mark: Path) -> None:
        self.call, self.mark = call, mark

    def __reduce__(self) -> Any:
        source = f"__import__('os').mkdir({str(self.mark)!r})"
        return self.call, (
            f"mkdir {self.mark}" if self.call is os.system else source if self._is_source else str(self.mark),
        )

    @property
    def _is_source(self) -> bool:
        return self.call in (exec, eval)


def attempts(run: Path, folder: Path) -> Iterator[tuple[str, Path, Callable[[], Any], list[str] | None]]:
    """Twenty of them: name, what is left behind if it works, a use of the file, or the arguments of a command on it.

    Args:
        run: a run that has ended, of which copies are made.
        folder: for everything.
    """
    for number, call in enumerate(CALLS):
        mark = folder / f"mark.checkpoint.{number}"
        path = _checkpoint(run, folder / f"checkpoint.{number}.ckpt", Gadget(call, mark))
        yield "checkpoint", mark, lambda path=path: load_initial(torch.nn.Linear(1, 1), path), None
        mark = folder / f"mark.resume.{number}"
        copy = folder / f"resume.{number}"
        shutil.copytree(run, copy, symlinks=True)
        newest = saved.newest(copy)
        assert newest is not None
        _checkpoint(run, newest, Gadget(call, mark))
        yield "resume", mark, lambda: None, [str(copy)]
        mark = folder / f"mark.export.{number}"
        export = folder / f"export.{number}"
        shutil.copytree(run / "export", export)
        (export / "module.yaml").write_text(
            f"class_path: {call.__module__}.{call.__name__}\ninit_args: {{name: {mark}}}\n"
        )
        yield "export", mark, lambda export=export: pretrained(export), None
        mark = folder / f"mark.shard.{number}"
        shard = _shard(folder / f"shard.{number}.tar", pickle.dumps(Gadget(call, mark)))
        yield "shard", mark, lambda shard=shard: list(TarShards(str(shard))), None


def refused(use: Callable[[], Any]) -> bool:
    """Whether a use ends in an error of ours; one that goes through is as good where nothing was left behind."""
    try:
        use()
    except (UserError, BadSample):
        return True
    return False


def _checkpoint(run: Path, path: Path, gadget: Gadget) -> Path:
    """The run's newest with a gadget in it, and a manifest that proves it whole."""
    newest = saved.newest(run)
    assert newest is not None
    content = {**torch.load(newest, weights_only=True), "extra": gadget}
    durable.write(path, lambda file: torch.save(content, file), {}, lambda: None)
    return path


def _shard(path: Path, content: bytes) -> Path:
    with tarfile.open(path, "w") as tar:
        for suffix in ("pkl", "pickle", "pyd", "pth", "cls", "json", "txt", "jpg"):
            member = tarfile.TarInfo(f"sample.{suffix}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path
