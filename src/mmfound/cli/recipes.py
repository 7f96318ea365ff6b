"""Find recipes by path or short name, and read their YAML."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

import mmfound
from mmfound.cli.suggest import did_you_mean
from mmfound.errors import ConfigError


def folders() -> list[Path]:
    """Where short names are looked up: `recipes/` here, in the checkout, and in the wheel; the first wins."""
    package = Path(mmfound.__file__).resolve().parent
    checkout = package.parents[1]
    places = [Path.cwd() / "recipes", package / "_recipes"]
    if (checkout / "pyproject.toml").is_file() and checkout / "src" == package.parent:
        places.insert(1, checkout / "recipes")
    return [place for place in dict.fromkeys(places) if place.is_dir()]


def names() -> dict[str, Path]:
    """Short name to file, machine overlays included, in order."""
    found: dict[str, Path] = {}
    for folder in reversed(folders()):
        found.update({path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.yaml")})
    return dict(sorted(found.items()))


def find(name: str) -> Path:
    """The file of a path or a short name such as `clip/quickstart`.

    Raises:
        ConfigError: when there is none, with the nearest name.
    """
    path = Path(name)
    if path.is_file():
        return path
    for folder in folders():
        for candidate in (folder / name, folder / f"{name}.yaml"):
            if candidate.is_file():
                return candidate
    known = names()
    hint = did_you_mean(name.removesuffix(".yaml"), known)
    if path.is_dir():
        raise ConfigError(f"{name} is a folder, not a recipe; name a file in it{hint}")
    raise ConfigError(f"no recipe {name!r}{hint or '; `mmfound recipes` lists them'}")


class _Loader(yaml.SafeLoader):
    """YAML with 1e-3 and 90_000 as numbers, 2020-01-01 as text, and no key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key.value!r} is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_FLOAT = re.compile(
    r"""^[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+
    |\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))$|^\.(?:nan|NaN|NAN)$""",
    re.VERBOSE,
)
_Loader.yaml_implicit_resolvers = {
    letter: [(tag, rule) for tag, rule in rules if tag.rpartition(":")[2] not in ("timestamp", "float")]
    for letter, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def parse(text: str) -> Any:
    """The value of a YAML text, never executing any of it."""
    return yaml.load(text, Loader=_Loader)


def read(path: Path) -> dict[str, Any]:
    """The tree of a recipe.

    Raises:
        ConfigError: when the file cannot be read, is not YAML, or is not a mapping.
    """
    try:
        tree = parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read recipe {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"recipe {path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"recipe {path} is not valid YAML: {_yaml_problem(error)}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"recipe {path} holds {type(tree).__name__}, not a mapping with keys such as model and data")
    return tree


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{problem} (line {mark.line + 1}, column {mark.column + 1})" if mark else problem


def main(argv: list[str]) -> int:
    """`mmfound recipes [list | show NAME]`."""
    action, rest = (argv[0], argv[1:]) if argv else ("list", [])
    if action in ("-h", "--help"):
        print("usage: mmfound recipes [list | show NAME]")
        return 0
    actions: dict[str, Callable[[list[str]], None]] = {"list": _list, "show": _show}
    if action not in actions:
        raise ConfigError(
            f"no command 'recipes {action}'{did_you_mean(action, actions) or '; there are list and show'}"
        )
    actions[action](rest)
    return 0


def _list(rest: list[str]) -> None:
    if rest:
        raise ConfigError(f"`mmfound recipes list` takes no argument, not {rest[0]!r}")
    known = names()
    if not known:
        raise ConfigError("no recipes here: neither ./recipes nor the installed package has any")
    width = max(map(len, known))
    for name, path in known.items():
        print(f"{name:<{width}}  {_title(path)}")


def _show(rest: list[str]) -> None:
    if len(rest) != 1:
        raise ConfigError("`mmfound recipes show NAME` takes one name; `mmfound recipes` lists them")
    path = find(rest[0])
    print(f"# {path}\n{path.read_text(encoding='utf-8')}", end="")


def _title(path: Path) -> str:
    """First sentence of the comment at the top."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").strip())
    return re.split(r"(?<=[^0-9])[.:](?:\s|$)", " ".join(lines))[0]
