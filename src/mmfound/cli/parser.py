"""A parser that raises ConfigError, beginning with the one line that matters."""

import argparse
from typing import Any, NoReturn

import yaml
from jsonargparse import set_loader
from lightning.pytorch.cli import LightningArgumentParser

from mmfound.cli.mistakes import explain
from mmfound.cli.plugins import expand_tree
from mmfound.cli.recipes import parse
from mmfound.errors import ConfigError

MODE = "recipe"


def install_loader() -> None:
    """Teach jsonargparse our YAML: scientific floats, short names of plug-ins."""
    set_loader(MODE, lambda text: expand_tree(parse(text)), (yaml.YAMLError,))


class RecipeParser(LightningArgumentParser):
    """Names the nearest valid option where one is mistyped.

    jsonargparse checks nested arguments with inner parsers of the same class. Those leave their options on the error,
    where the outermost parser finds them.
    """

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise ConfigError; an inner parser raises what its outer one expects."""
        options = {action.dest for action in self._actions}
        if self.exit_on_error:
            subparser: Any = getattr(ex, "subcommand_parser", None)
            if subparser is not None:
                options = {action.dest for action in subparser._actions}
            raise ConfigError(explain(message, ex, options)) from ex
        try:
            super().error(message, ex)
        except argparse.ArgumentError as error:
            error.options = options  # pyright: ignore[reportAttributeAccessIssue]
            raise
