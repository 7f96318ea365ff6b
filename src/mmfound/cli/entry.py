"""Dispatch to a command, and the exit code of every way it can end.

Codes: 0 done, 1 a bug of ours (traceback), 2 configuration, 3 data, 4 preempted, 5 diverged, 6 run folder in use,
7 no checkpoint can be trusted, 8 disk full, 130 interrupted from the keyboard. A process that Lightning has started for
another rank ends with 0 where all ranks agreed to end: Lightning kills the first rank when another ends with anything
else.
"""

import os
import sys
import traceback
from collections.abc import Callable, Sequence

import mmfound
from mmfound.cli.suggest import did_you_mean
from mmfound.errors import ConfigError, Interrupted, RunEnded, UserError, exit_code, user_error
from mmfound.runs.launched import is_launched

USAGE = """usage: mmfound COMMAND ...

Train, evaluate, resume and use image-text foundation models from YAML recipes.

run a recipe (--config RECIPE.yaml or a short name; --help lists its options):
  fit        train, or go on where the run folder stopped
  validate   score the newest checkpoint of the run folder on the validation source
  test       the same on the test source
  predict    write embeddings or logits of the test (validation, training) source

use weights, ours or downloaded:
  score      zero-shot accuracy on a folder with a folder of pictures per class
  embed      write the embeddings of pictures or captions to a file
  search     find pictures by text or by picture in such a file
  generate   draw pictures of prompts, redraw parts of a picture, or enlarge one

turn one thing into another:
  convert    one file, or an export, from a checkpoint that several ranks have written
  export     weights of ours or another library's, in our format or for OpenAI's CLIP, open_clip or Hugging Face
  interpolate
             exports between two exports of one model, such as before and after fine-tuning

look around:
  recipes    list the recipes, or `recipes show NAME`
  plugins    list the plug-ins, where they come from and whether they import
  data       inspect, verify or pack data sets
  doctor     what this machine, environment and cluster have; --ranks: whether all ranks can work together

options:
  --help     this text
  --version  the version

examples:
  mmfound fit --config clip/quickstart
  mmfound fit --config clip/quickstart --config machines/cpu --trainer.max_steps 1000
  mmfound test --config clip/quickstart
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: arguments without the program's name; the process's own by default.
    """
    try:
        return _dispatch(list(sys.argv[1:] if argv is None else argv))
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        return _ended_by(error)


def _dispatch(argv: list[str]) -> int:
    command, rest = (argv[0], argv[1:]) if argv else ("--help", [])
    if command in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if command == "--version":
        print(f"mmfound {mmfound.__version__}")
        return 0
    if command not in _COMMANDS:
        hint = did_you_mean(command, _COMMANDS) or f"; there are {', '.join(_COMMANDS)}"
        raise ConfigError(f"no command {command!r}{hint}")
    return _COMMANDS[command](rest)


def _recipes(argv: list[str]) -> int:
    from mmfound.cli.recipes import main

    return main(argv)


def _plugins(argv: list[str]) -> int:
    from mmfound.cli.plugins import main

    return main(argv)


def _doctor(argv: list[str]) -> int:
    from mmfound.cli.doctor import main

    return main(argv)


def _data(argv: list[str]) -> int:
    from mmfound.data.tools import main

    return main(argv) or 0


def _convert(argv: list[str]) -> int:
    from mmfound.cli.convert import main

    return main(argv)


def _export(argv: list[str]) -> int:
    from mmfound.cli.export import main

    return main(argv)


def _score(argv: list[str]) -> int:
    _let_threads_sleep()
    from mmfound.cli.score import main

    return main(argv)


def _embed(argv: list[str]) -> int:
    _let_threads_sleep()
    from mmfound.cli.embed import main

    return main(argv)


def _search(argv: list[str]) -> int:
    from mmfound.cli.search import main

    return main(argv)


def _generate(argv: list[str]) -> int:
    _let_threads_sleep()
    from mmfound.cli.generate import main

    return main(argv)


def _interpolate(argv: list[str]) -> int:
    from mmfound.cli.interpolate import main

    return main(argv)


def _training(subcommand: str) -> Callable[[list[str]], int]:
    def run(argv: list[str]) -> int:
        _let_threads_sleep()
        from mmfound.cli.training import main

        return main(subcommand, argv)

    return run


def _let_threads_sleep() -> None:
    # OpenMP threads that spin between operations cost a sixth of the CPU time for nothing, and on a shared machine take
    # the cores from one another. Read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    **{name: _training(name) for name in ("fit", "validate", "test", "predict")},
    "score": _score,
    "embed": _embed,
    "search": _search,
    "generate": _generate,
    "recipes": _recipes,
    "plugins": _plugins,
    "convert": _convert,
    "export": _export,
    "interpolate": _interpolate,
    "data": _data,
    "doctor": _doctor,
}


def _ended_by(error: BaseException) -> int:
    code, mistake = exit_code(error), user_error(error)
    if code == Interrupted.exit_code and mistake is None:
        print("interrupted", file=sys.stderr)
    elif isinstance(mistake, RunEnded) and is_launched():
        return 0
    elif mistake is not None:
        print(f"error: {_message(mistake)}", file=sys.stderr)
    elif isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    else:
        traceback.print_exception(error)
    return code


def _message(error: UserError) -> str:
    """The error's own words; one from a data worker arrives as the text of its traceback."""
    text = str(error)
    if not text.startswith("Caught "):
        return text
    name = f"{type(error).__module__}.{type(error).__qualname__}: "
    return text.rpartition(name)[2].strip() or text
