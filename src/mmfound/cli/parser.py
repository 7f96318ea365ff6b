"""A parser whose errors begin with the one line that matters."""

import re
from collections.abc import Iterable
from typing import Any, NoReturn

import yaml
from jsonargparse import set_loader
from lightning.pytorch.cli import LightningArgumentParser

from mmfound.cli.plugins import expand_tree
from mmfound.cli.recipes import parse
from mmfound.cli.suggest import did_you_mean
from mmfound.errors import ConfigError

MODE = "recipe"


def install_loader() -> None:
    """Teach jsonargparse our YAML: scientific floats, short names of plug-ins."""
    set_loader(MODE, lambda text: expand_tree(parse(text)), (yaml.YAMLError,))


class RecipeParser(LightningArgumentParser):
    """Names the nearest valid option where one is mistyped, and raises instead of printing and exiting.

    jsonargparse checks nested arguments with inner parsers of the same class, whose errors it wraps into the outer
    one's text; the marked line is found there again.
    """

    def validate(self, *args: Any, **kwargs: Any) -> None:
        """As jsonargparse's, with the nearest option in the error."""
        try:
            super().validate(*args, **kwargs)
        except KeyError as error:
            unknown = re.search(r"ption '([\w.]+)'", str(error))
            if unknown is None or "did you mean" in str(error):
                raise
            line = f"{_MARK}{unknown[1]}{self._hint(unknown[1])}{_MARK}"
            changed = type(error)(f"{error.args[0]}\n{line}")
            changed.__dict__.update(error.__dict__)
            raise changed from error

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise ConfigError; inner parsers raise what their outer one expects."""
        if not self.exit_on_error:
            super().error(message, ex)
        raise ConfigError(first_line(message)) from ex

    def _hint(self, key: str) -> str:
        return key
