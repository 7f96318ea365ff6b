"""fit, validate, test and predict: what surrounds the LightningCLI."""

import logging
import os
import signal
import sys
import threading
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from jsonargparse._deprecated import JsonargparseDeprecationWarning
from lightning.fabric.utilities.warnings import PossibleUserWarning

from mmfound.cli.arguments import write_out
from mmfound.cli.command import Cli, Finished
from mmfound.cli.parser import install_loader
from mmfound.cli.report import say


def main(subcommand: str, argv: list[str]) -> int:
    """Run one of the four subcommands; 0, or an error."""
    arguments = write_out(argv)
    _make_importable(arguments.configs)
    install_loader()
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    on_interrupt = signal.getsignal(signal.SIGINT)  # Lightning leaves it ignored
    with warnings.catch_warnings(), ExitStack() as at_exit:
        at_exit.push(_keep_code)
        _quiet()
        try:
            Cli(subcommand, arguments, at_exit)
        except Finished as done:
            say(str(done))
        finally:
            signal.signal(signal.SIGINT, on_interrupt)
    return 0


def _keep_code(kind: Any, error: BaseException | None, trace: Any) -> None:
    """Slurm ends all ranks when the first has ended with an error, which they are about to do with the same code."""
    if error is not None and "SLURM_JOB_ID" in os.environ and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _make_importable(configs: list[Path]) -> None:
    """Let recipes name classes in files of this folder, and of the folder that the recipe is in.

    The absolute path: jsonargparse changes directory while it reads a config.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    for config in configs:
        beside = str(config.absolute().parent)
        if beside not in sys.path:
            sys.path.append(beside)


def _quiet() -> None:
    """Silence warnings that users of recipes can do nothing about."""
    warnings.filterwarnings("ignore", category=JsonargparseDeprecationWarning)  # of Lightning's calls
    warnings.filterwarnings("ignore", category=PossibleUserWarning)
    warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`")  # test needs no training callback
    warnings.filterwarnings("ignore", message="Total length of `.*` across ranks is zero")  # no val_source
    warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)  # of Lightning's calls to torch
    # FSDP2 and DeepSpeed call collectives by names that torch has given up since.
    warnings.filterwarnings("ignore", message=".*torch.distributed.* is deprecated", category=FutureWarning)
