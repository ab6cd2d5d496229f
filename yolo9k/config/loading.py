"""Reading configs: YAML, `extends`, `--set key=value`, and errors that name the key and the nearest right one."""

import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from yolo9k.config import catalogue
from yolo9k.config.schema import Config, DatasetConfig, as_size
from yolo9k.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


def load_config(name: str | Path | None, overrides: Iterable[str] = ()) -> Config:
    """The config `name` (a path or a catalogue name; none is all defaults) with `key=value` overrides.

    Raises `ConfigError` for what is not found, not YAML, unknown, or of the wrong type or range.
    """
    values = _read_extending(_locate(str(name)), seen=()) if name is not None else {}
    for override in overrides:
        values = _merge(values, _parse_override(override))
    return _validate(Config, values, str(name) if name is not None else "options")


def with_overrides(config: Config, overrides: Iterable[str]) -> Config:
    """The config changed by `key=value` overrides. Raises `ConfigError`."""
    values: dict[str, Any] = config.model_dump(mode="json")
    for override in overrides:
        values = _merge(values, _parse_override(override))
    return _validate(Config, values, "options")


def parse_size(text: str) -> tuple[int, int]:
    """`416` and `512x384` as width and height. Raises `ConfigError` for anything else."""
    try:
        size: Any = as_size(text)
    except ValueError as error:
        raise ConfigError(f"size {text!r}: {error}") from error
    return size[0], size[1]


def load_dataset_config(source: str | Path | DatasetConfig) -> DatasetConfig:
    """A data set config by path or catalogue name; one that is already resolved is given back.

    Raises `ConfigError`.
    """
    if isinstance(source, DatasetConfig):
        return source
    path = catalogue.find(str(source), dataset=True)
    if path is None:
        raise ConfigError(_not_found("data set", str(source), catalogue.dataset_names()))
    dataset = _validate(DatasetConfig, _read_yaml(path), str(path))
    return dataset if dataset.name else dataset.model_copy(update={"name": path.stem})


def dump(model: BaseModel) -> str:
    """A config as YAML text, that `load_config` reads back to an equal one."""
    return yaml.safe_dump(model.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=110)


def _locate(name: str) -> Path:
    path = catalogue.find(name)
    if path is None:
        raise ConfigError(_not_found("config", name, catalogue.config_names()))
    return path


def _not_found(what: str, name: str, known: list[str]) -> str:
    if not name:
        return f"no {what} is named; the catalogue has {', '.join(known)}, or give the path of one"
    near = difflib.get_close_matches(name.removesuffix(".yaml"), known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the catalogue has {', '.join(known)}"
    return f"{name}: no such {what} file, and none of that name in the catalogue; {hint}"


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ConfigError(f"{place}: not YAML: {getattr(error, 'problem', None) or error}") from error
    except (OSError, ValueError) as error:  # not UTF-8, or a date that is none
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a config is a mapping of keys to values, not a {type(values).__name__}")
    return values


def _read_extending(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """The values of a file over those of the one it extends."""
    path = path.resolve()
    if path in seen:
        raise ConfigError(f"{path}: extends itself: {' -> '.join(p.name for p in (*seen, path))}")
    values = _read_yaml(path)
    parent = values.pop("extends", None)
    if parent is None:
        return values
    beside = path.parent / str(parent)
    base = beside if beside.is_file() else _locate(str(parent))
    return _merge(_read_extending(base, (*seen, path)), values)


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`, mapping by mapping; where one is no mapping the upper value replaces it."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _parse_override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text}: write KEY=VALUE, e.g. --set train.lr=0.0005")
    try:
        parsed: Any = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"--set {text}: the value is not YAML") from error
    for part in reversed(key.strip().split(".")):
        parsed = {part: parsed}
    return parsed


def _validate(model: type[Model], values: Mapping[str, Any], source: str) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{source}: {_explain(model, error)}") from error


def _explain(model: type[BaseModel], error: ValidationError) -> str:
    """The first problem in one line; an unknown key comes first, since it often causes the others."""
    problems = sorted(error.errors(include_url=False), key=_rank)
    problem = problems[0]
    location = [str(part) for part in problem["loc"] if not _is_union_branch(part)]
    key = ".".join(location) or "config"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; {_nearest(model, location)}{more}"
    if problem["type"] == "missing":
        return f"{key}: is missing{more}"
    if problem["type"] == "model_type":
        return f"{key}: is a section, a mapping of keys to values, not {problem['input']!r}{more}"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if problem["type"] == "value_error":  # of a key, or of a section: then the message begins with the key in it
        within = f"{key}." if location else ""
        return f"{within}{message}{more}" if _section_at(model, location) else f"{key}: {message}{more}"
    return f"{key}: {message}, not {problem['input']!r}{more}"


def _rank(problem: Mapping[str, Any]) -> int:
    """Unknown keys first; last that a section is no text, where it might have been one (`data.dataset`)."""
    if problem["type"] == "extra_forbidden":
        return 0
    return 2 if problem["type"] == "string_type" and isinstance(problem["input"], Mapping) else 1


def _is_union_branch(part: object) -> bool:
    """Pydantic names the branch of a union in the location; a person did not write that."""
    return isinstance(part, str) and ("[" in part or part in ("str", "int", "float", "bool", "DatasetConfig"))


def _nearest(model: type[BaseModel], location: list[str]) -> str:
    section = _section_at(model, location[:-1]) or model
    prefix = ".".join(location[:-1])
    known = [f"{prefix}.{name}" if prefix else name for name in section.model_fields]
    everywhere = known + [key for key in _all_keys(model) if key not in known and key != prefix]
    near = difflib.get_close_matches(".".join(location), everywhere, n=1)
    same_name = [key for key in everywhere if key.rsplit(".", 1)[-1] == location[-1]]
    best = near or same_name[:1]
    return f"did you mean {best[0]}?" if best else f"allowed are {', '.join(known)}"


def _section_at(model: type[BaseModel], location: list[str]) -> type[BaseModel] | None:
    """The section that a location leads to; none where it leads to a value."""
    section: type[BaseModel] | None = model
    for part in location:
        section = _section_of(section, part) if section else None
    return section


def _section_of(section: type[BaseModel], name: str) -> type[BaseModel] | None:
    field = section.model_fields.get(name)
    if field is None:
        return None
    options = [field.annotation]
    if isinstance(field.annotation, types.UnionType) or typing.get_origin(field.annotation) is typing.Union:
        options = list(typing.get_args(field.annotation))
    return next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)


def _all_keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name in section.model_fields:
        keys.append(prefix + name)
        inner = _section_of(section, name)
        if inner is not None:
            keys += _all_keys(inner, f"{prefix}{name}.")
    return keys
