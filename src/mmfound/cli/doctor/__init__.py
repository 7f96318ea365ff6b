"""`mmfound doctor`: what this machine and the cluster have, and with `--ranks` whether all ranks can work together."""

from mmfound.cli.doctor.command import main

__all__ = ["main"]
