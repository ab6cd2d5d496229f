"""Reading configs: YAML, `extends`, `--set key=value`, and errors that name the key and the nearest right one."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from yolo9k.config import catalogue
from yolo9k.config.classifier import ClassifierConfig
from yolo9k.config.datasets import AnyDataset, DatasetConfig, JointConfig, PartConfig
from yolo9k.config.overrides import Override
from yolo9k.config.schema import Config
from yolo9k.config.section import Section, as_size
from yolo9k.config.wording import requirement
from yolo9k.errors import ConfigError
from yolo9k.renamed import with_new_names

Model = TypeVar("Model", bound=BaseModel)
RunConfig = Config | ClassifierConfig
Run = TypeVar("Run", bound=Section)
Part = TypeVar("Part", bound=Section)
JointPart = TypeVar("JointPart", bound=PartConfig)
Sections = list[type[BaseModel]]
Location = tuple[int | str, ...]  # of a value, as pydantic says it

NAMED_KEYS = 4  # of a section, where a value stands in its place
Problem = Mapping[str, Any]  # of pydantic's list of errors

TASKS: Mapping[type[BaseModel], str] = {Config: "detect", ClassifierConfig: "classify"}
PRODUCTS = {"detect": "detector", "classify": "classifier"}
COMMANDS = {"detect": "yolo9k train takes it", "classify": "yolo9k classify train takes it"}

# of unions in the schema
BRANCHES = ("str", "int", "float", "bool", "DatasetConfig", "JointConfig", "TreeLabels", "SplitSource")


def load_config(name: str | Path | None, overrides: Iterable[str | Override] = ()) -> Config:
    """The config `name` (a path or a catalogue name; none is all defaults) with overrides (`key=value` as text).

    Raises `ConfigError` for what is not found, not YAML, unknown, of the wrong type or range, or a classifier's.
    """
    return load_of(Config, name, overrides)


def load_classifier_config(name: str | Path | None, overrides: Iterable[str | Override] = ()) -> ClassifierConfig:
    """As `load_config`, the config of a classifier. Raises `ConfigError` as that does, and for a detector's."""
    return load_of(ClassifierConfig, name, overrides)


def load_run_config(name: str | Path | None, overrides: Iterable[str | Override] = ()) -> RunConfig:
    """As `load_config`, of whatever the config is for."""
    values = {} if name is None else _read_extending(_locate(str(name)), seen=())
    kind: type[RunConfig] = ClassifierConfig if values.get("task") == TASKS[ClassifierConfig] else Config
    return _overridden(kind, values, overrides, str(name))


def load_of(kind: type[Run], name: str | Path | None, overrides: Iterable[str | Override] = ()) -> Run:
    """As `load_config`, of the kind `Config` or `ClassifierConfig`. Raises `ConfigError` for the other."""
    values = {"task": TASKS[kind]} if name is None else _read_extending(_locate(str(name)), seen=())
    refuse_other(kind, values.get("task", "detect"), str(name))
    return _overridden(kind, values, overrides, str(name))


def refuse_other(kind: type[BaseModel], task: object, source: str) -> None:
    """Raises `ConfigError` where a config, as its `task` says, is of another kind than is wanted."""
    if task != TASKS[kind] and task in TASKS.values():
        raise ConfigError(
            f"{source}: is for training a {PRODUCTS[str(task)]}, not a {PRODUCTS[TASKS[kind]]}; {COMMANDS[str(task)]}"
        )


def with_overrides(config: Run, overrides: Iterable[str | Override]) -> Run:
    """The config changed by overrides (`key=value` as text). Raises `ConfigError`."""
    return _overridden(type(config), config.model_dump(mode="json"), overrides, "config")


def updated(section: Part, changes: Mapping[str, Any], source: str = "config") -> Part:
    """Return a copy of a config, or of a section of one, with changed values, validated as a whole.

    `changes`: values by dotted key, relative to the section (`{"data.size": (416, 416)}`). Raises `ConfigError` that
    names `source`.
    """
    try:
        return type(section).model_validate(_with_values(section, changes))
    except ValidationError as error:
        raise ConfigError(f"{source}: {_explain(type(section), error)}") from error


def _with_values(section: BaseModel, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a section after the changes; sections without a change stay as they are."""
    values: dict[str, Any] = dict(section)
    nested: dict[str, dict[str, Any]] = {}
    for key, value in changes.items():
        name, _, rest = key.partition(".")
        if rest:
            nested.setdefault(name, {})[rest] = value
        else:
            values[name] = value
    return values | {name: _with_values(values[name], inner) for name, inner in nested.items()}


def _overridden(kind: type[Run], values: dict[str, Any], overrides: Iterable[str | Override], source: str) -> Run:
    """The config after all overrides; an error names the one that made it wrong, or else the source.

    What one override breaks a later one may mend: `train.steps=9` needs `train.epochs=null` where that is set.
    """
    changes = [Override.of(override) for override in overrides]
    for change in changes:
        values = _merge(values, change.nested())
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        culprit, problem = _culprit(kind, values, changes, error), _explain(kind, error)
        raise ConfigError(culprit.blamed(problem) if culprit else f"{source}: {problem}") from error


def _culprit(
    kind: type[Run], values: Mapping[str, Any], changes: Sequence[Override], error: ValidationError
) -> Override | None:
    """The last change without whose keys, which then have their defaults, the first problem is gone."""
    first, *_ = _problems(error)
    for change in reversed(changes):
        try:
            kind.model_validate(_without(values, change.nested()))
        except ValidationError as left:
            if any((other["loc"], other["msg"]) == (first["loc"], first["msg"]) for other in _problems(left)):
                continue
        return change
    return None


def parse_size(text: str) -> tuple[int, int]:
    """`416` and `512x384` as width and height. Raises `ConfigError` for anything else."""
    try:
        size: Any = as_size(text)
    except ValueError as error:
        raise ConfigError(f"size {text!r}: {error}") from error
    return size[0], size[1]


def load_dataset_config(source: str | Path | AnyDataset) -> AnyDataset:
    """A data set config, or a joint one (it has `sources`), by path or catalogue name; a resolved one is given back.

    The sources of a joint one are resolved, too; those that are folders stay paths. Raises `ConfigError`.
    """
    if isinstance(source, DatasetConfig):
        return source
    if isinstance(source, JointConfig):
        return _with_sources(source, Path(), source.name or "data.dataset")
    path = _locate_dataset(str(source))
    dataset = _read_dataset(path)
    return _with_sources(dataset, path.parent, str(path)) if isinstance(dataset, JointConfig) else dataset


def _locate_dataset(name: str) -> Path:
    path = catalogue.find(name, dataset=True)
    if path is None:
        raise ConfigError(_not_found("data set", name, catalogue.dataset_names()))
    return path


def _read_dataset(path: Path) -> AnyDataset:
    """The config in a file, named after it where it says no name; sources stay as they are written."""
    values = _read_yaml(path)
    kind: type[AnyDataset] = JointConfig if "sources" in values else DatasetConfig
    dataset = _validate(kind, values, str(path))
    return dataset if dataset.name else updated(dataset, {"name": path.stem})


def _with_sources(joint: JointConfig, folder: Path, place: str) -> JointConfig:
    """The joint config with the configs that its parts name, which may lie beside it in `folder`."""
    sources = []
    for number, source in enumerate(joint.sources):
        at = f"{place}: sources.{number}"
        sources.append(_with_dataset(source, folder, at))
        _check_kind(sources[-1].dataset, source.use == "images", at)
    val = joint.val and _with_dataset(joint.val, folder, f"{place}: val")
    if val is not None:
        _check_kind(val.dataset, False, f"{place}: val")
    return updated(joint, {"sources": tuple(sources), "val": val})


def _check_kind(dataset: str | DatasetConfig, images: bool, place: str) -> None:
    """Raises `ConfigError` where a source is not of the kind that gives what it is used for."""
    if isinstance(dataset, str) or dataset.has_boxes != images:
        return
    needed = "`use: images` needs folder or shards" if images else "it has no boxes; `use: images` learns its labels"
    raise ConfigError(f"{place}: the data set {dataset.name or dataset.root} is of kind {dataset.kind}; {needed}")


def _with_dataset(part: JointPart, folder: Path, place: str) -> JointPart:
    if not isinstance(part.dataset, str):
        return part
    here = Path(part.dataset).expanduser()
    beside = folder / here
    found = beside if beside.is_file() else catalogue.find(part.dataset, dataset=True)
    directory = next((path for path in (beside, here) if part.dataset and path.is_dir()), None)
    if found is None and directory is not None:
        return updated(part, {"dataset": str(directory)})
    try:
        dataset = _read_dataset(found or _locate_dataset(part.dataset))
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error
    if isinstance(dataset, JointConfig):
        raise ConfigError(f"{place}: {part.dataset} is a joint data set itself; name its sources")
    return updated(part, {"dataset": dataset})


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
    return with_new_names(values, str(path))


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


def _without(values: Mapping[str, Any], keys: Mapping[str, Any]) -> dict[str, Any]:
    """The values less those that nested `keys` end at."""
    kept = dict(values)
    for key, below in keys.items():
        if isinstance(below, Mapping) and isinstance(kept.get(key), Mapping):
            kept[key] = _without(kept[key], below)
        else:
            kept.pop(key, None)
    return kept


def _validate(model: type[Model], values: Mapping[str, Any], source: str) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{source}: {_explain(model, error)}") from error


def _explain(model: type[BaseModel], error: ValidationError) -> str:
    """The first problem in one line; an unknown key comes first, since it often causes the others."""
    problems = _problems(error)
    alternatives = _alternatives(problems)
    problem = max(alternatives, key=_depth)  # the form that fits best, as far as it goes
    location = _location(problem)
    key = ".".join(location) or "config"
    more = f" (and {len(problems) - len(alternatives)} more)" if len(problems) > len(alternatives) else ""
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; {_nearest(model, problem['loc'])}{more}"
    if problem["type"] == "missing":
        return f"{key}: is missing{more}"
    section = _section_at(model, problem["loc"])
    if problem["type"] == "model_type":
        keys = list(section.model_fields if section else ())
        some = ", ".join(keys[:NAMED_KEYS]) + (", …" if len(keys) > NAMED_KEYS else "")
        return f"{key}: is a section with keys of its own ({some}), not {problem['input']!r}{more}"
    if problem["type"] == "value_error":  # of a key, or of a section: then the message begins with the key in it
        message = problem["msg"].removeprefix("Value error, ")
        within = f"{key}." if location else ""
        return f"{within}{message}{more}" if section else f"{key}: {message}{more}"
    equals = [other for other in alternatives if _depth(other) == _depth(problem)]
    return f"{key}: {requirement(equals)}, not {problem['input']!r}{more}"


def _problems(error: ValidationError) -> list[Problem]:
    return sorted(error.errors(include_url=False), key=_rank)


def _alternatives(problems: Sequence[Problem]) -> list[Problem]:
    """The first problem, with those of the other forms that its value may have."""
    first, *others = problems
    at = max((i for i, part in enumerate(first["loc"]) if _is_union_branch(part)), default=None)
    if at is None:
        return [first]
    same_value = [other for other in others if len(other["loc"]) > at and other["loc"][:at] == first["loc"][:at]]
    return [first, *(other for other in same_value if other["loc"][at] != first["loc"][at])]


def _location(problem: Problem) -> list[str]:
    return [str(part) for part in problem["loc"] if not _is_union_branch(part)]


def _depth(problem: Problem) -> int:
    return len(_location(problem))


def _rank(problem: Problem) -> int:
    """Unknown keys first; last that a section is no text, where it might have been one (`data.dataset`)."""
    if problem["type"] == "extra_forbidden":
        return 0
    return 2 if problem["type"] == "string_type" and isinstance(problem["input"], Mapping) else 1


def _is_union_branch(part: object) -> bool:
    """Pydantic names the branch of a union in the location; a person did not write that."""
    return isinstance(part, str) and ("[" in part or part.startswith("constrained-") or part in BRANCHES)


def _nearest(model: type[BaseModel], loc: Location) -> str:
    location = [str(part) for part in loc if not _is_union_branch(part)]
    section = _section_at(model, loc[:-1]) or model
    prefix = ".".join(location[:-1])
    known = [f"{prefix}.{name}" if prefix else name for name in section.model_fields]
    everywhere = known + [key for key in _all_keys(model) if key not in known and key != prefix]
    near = difflib.get_close_matches(".".join(location), everywhere, n=1)
    same_name = [key for key in everywhere if key.rsplit(".", 1)[-1] == location[-1]]
    best = near or same_name[:1]
    return f"did you mean {best[0]}?" if best else f"allowed are {', '.join(known)}"


def _section_at(model: type[BaseModel], loc: Location) -> type[BaseModel] | None:
    """The section that a location leads to; none where it leads to a value."""
    sections: Sections = [model]
    for part in loc:
        if isinstance(part, int):  # an entry of a list of sections
            continue
        if _is_union_branch(part):
            sections = [section for section in sections if section.__name__ == part]
        else:
            sections = [inner for section in sections for inner in _sections_of(section, part, lists=True)]
    return sections[0] if sections else None


def _sections_of(section: type[BaseModel], name: str, *, lists: bool) -> Sections:
    """The sections that the value of a key may be; with `lists` those that may stand in a list there, too."""
    field = section.model_fields.get(name)
    return _sections_in(field.annotation, lists) if field else []


def _sections_in(annotation: Any, lists: bool) -> Sections:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if not lists and get_origin(annotation) in (tuple, dict):
        return []
    return [section for inner in get_args(annotation) for section in _sections_in(inner, lists)]


def _all_keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name in section.model_fields:
        keys.append(prefix + name)
        for inner in _sections_of(section, name, lists=False):
            keys += _all_keys(inner, f"{prefix}{name}.")
    return keys
