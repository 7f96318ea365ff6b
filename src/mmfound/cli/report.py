"""What a run says to its user at the end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_only

from mmfound.runs import summary

_ANEW = "to start anew: name another folder, --run_dir runs/NAME"


@rank_zero_only
def say(text: str) -> None:
    """Print once for all processes."""
    print(text, flush=True)


def table(metrics: Mapping[str, float | None]) -> str:
    """Name and value, one a line."""
    width = max(map(len, metrics), default=0)
    return "\n".join(f"  {name:<{width}}  {_number(value)}" for name, value in metrics.items())


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"


def after_fit(run: Path, command: str) -> str:
    """Metrics, the run folder and what to do next.

    Args:
        run: the run folder.
        command: the options that name this run again, such as `--config clip/quickstart`.
    """
    ended: dict[str, Any] = summary.read(run)
    speed = ended.get("samples_per_second")
    rate = f", {speed:.4g} samples/s" if speed else ""
    lines = [
        f"done: step {ended.get('steps', 0)} in {ended.get('seconds', 0.0):.1f} s{rate} ({ended.get('exit_reason')})",
        table(ended.get("metrics", {})),
        f"run folder: {run}",
        f"next: mmfound test {command}",
        f"      tensorboard --logdir {run}",
    ]
    return "\n".join(line for line in lines if line)


def finished(run: Path, step: int, setting: str, value: int) -> str:
    """A run that has nothing left to do, and the two ways on.

    Args:
        run: the run folder.
        step: of its newest checkpoint.
        setting: of the trainer, that has been reached: max_steps or max_epochs.
        value: of the setting.
    """
    return (
        f"already finished: {run} is at step {step} and has reached {setting} {value}\n"
        f"to go on: raise it, --trainer.{setting} {2 * value}\n{_ANEW}"
    )


def ended(run: Path, step: int, reason: str) -> str:
    """A run that has ended by something else than its number of steps, and the two ways on.

    Args:
        run: the run folder.
        step: of its newest checkpoint.
        reason: the summary's `exit_reason`.
    """
    what = "the end of its epochs" if reason == "max_epochs" else "a callback"
    return f"already finished: {what} has stopped {run} at step {step}\nto go on: change that\n{_ANEW}"
