"""Arguments of the small commands."""

import argparse
from typing import NoReturn

from mmfound.errors import ConfigError


class Options(argparse.ArgumentParser):
    """An argparse parser whose mistakes are ours to report.

    Args:
        command: such as `embed`.
    """

    def __init__(self, command: str) -> None:
        super().__init__(prog=f"mmfound {command}", add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Report a mistake.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{self.prog}: {message}; `{self.prog} --help` shows how")
