"""Puts the Slurm job of a run that was stopped back into the queue."""

import os
import re
import subprocess

from lightning.pytorch import Trainer
from lightning.pytorch.plugins.environments import SLURMEnvironment

_ANSWERS_WITHIN_S = 60.0


class _Failed(Exception):
    """Slurm could not be asked."""


def job() -> str:
    """What `scontrol` calls the job of this process, which for one of an array is not its number; empty without one."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}_ID", "") for name in ("JOB", "TASK"))
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")


def leave_to_us(trainer: Trainer) -> None:
    """Lightning would save within a signal handler and requeue then, evaluations too."""
    environment = trainer._accelerator_connector.cluster_environment
    if isinstance(environment, SLURMEnvironment):
        environment.auto_requeue = False


def requeue() -> str:
    """Let Slurm start the job again, where that is for us to do.

    A job that its user has cancelled is left alone, and so is one that Slurm itself is requeueing or ending. Slurm ends
    all processes of the job when it is asked, so everything must be saved.

    Returns:
        What came of it, for the user.
    """
    name = job()
    try:
        facts = dict(re.findall(r"(\w+)=(\S*)", _scontrol("show", "job", "--oneliner", name)))
        reason = _why_not(facts)
        if reason is None:
            _scontrol("requeue", name)
            return f"Slurm job {name} is requeued and will go on by itself"
        return f"Slurm job {name} is not requeued by this run: {reason}"
    except _Failed as error:
        return f"Slurm job {name} could not be requeued: {error}; submit it again to go on"


def _why_not(facts: dict[str, str]) -> str | None:
    """Why a job is not to be requeued by the run in it; None where it is."""
    state = facts.get("JobState", "UNKNOWN")
    if state != "RUNNING":  # it already has the state that it was given: cancelled, out of time, requeued
        return f"it is {state} already, as Slurm or its user wants it"
    if facts.get("BatchFlag") == "0":
        return "it was not submitted with sbatch; give the same command again to go on"
    if facts.get("Requeue") == "0":
        return "it was submitted with --no-requeue; submit it again to go on"
    return None


def _scontrol(*arguments: str) -> str:
    """Its answer.

    Raises:
        _Failed: saying why there is none.
    """
    command = f"`scontrol {' '.join(arguments)}`"
    try:
        done = subprocess.run(
            ["scontrol", *arguments], capture_output=True, text=True, errors="replace", timeout=_ANSWERS_WITHIN_S
        )
    except FileNotFoundError:
        raise _Failed("there is no command scontrol here (a container needs Slurm's tools in it)") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _Failed(f"{command}: {error}") from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise _Failed(f"{command} ended with {done.returncode}: {said}")
    return done.stdout
