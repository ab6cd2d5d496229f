"""Load configs: YAML files, `extends`, overrides (`--set key=value`); errors name the key and what is allowed."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from yolo9k.config import catalogue
from yolo9k.config.classifier import ClassifierConfig
from yolo9k.config.datasets import AnyDataset, DatasetConfig, JointConfig, PartConfig
from yolo9k.config.explain import explain, ordered_problems
from yolo9k.config.kinds import IMAGE_KINDS
from yolo9k.config.overrides import Override
from yolo9k.config.schema import Config
from yolo9k.config.section import Section, as_size
from yolo9k.errors import MAX_QUOTED, ConfigError, quote
from yolo9k.io import expanded, is_file, is_folder, unreachable
from yolo9k.renamed import with_new_names
from yolo9k.yaml_files import is_plain_text, load_yaml

Model = TypeVar("Model", bound=BaseModel)
RunConfig = Config | ClassifierConfig
Run = TypeVar("Run", bound=Section)
Part = TypeVar("Part", bound=Section)
JointPart = TypeVar("JointPart", bound=PartConfig)

MAX_EXTENDS = 20  # files
YAML_SUFFIXES = (".yaml", ".yml")
IMAGE_FOLDERS = "class folders or tar shards"
DATA_YAML_STEMS = ("data", "dataset")  # the usual names of the YAML files of tools
TOOL_SUFFIXES = (".data", ".json", ".txt")  # Darknet's, COCO's, a list of images
TASKS: Mapping[type[BaseModel], str] = {Config: "detect", ClassifierConfig: "classify"}
PRODUCTS = {"detect": "detector", "classify": "classifier"}
COMMANDS = {"detect": "yolo9k train", "classify": "yolo9k classify train"}


def load_config(name: str | Path | None, overrides: Iterable[str | Override] = ()) -> Config:
    """Load a detector's config by path or catalogue name (`None`: all defaults), with overrides (`KEY=VALUE`).

    Raises `ConfigError` if the file is missing, not YAML, has unknown keys or wrong values, or is a classifier's.
    """
    return load_of(Config, name, overrides)


def load_classifier_config(name: str | Path | None, overrides: Iterable[str | Override] = ()) -> ClassifierConfig:
    """Load a classifier's config, as `load_config`; raises `ConfigError` also for a detector's."""
    return load_of(ClassifierConfig, name, overrides)


def load_run_config(name: str | Path | None, overrides: Iterable[str | Override] = ()) -> RunConfig:
    """Load a detector's or a classifier's config, as `load_config`."""
    values = {} if name is None else _read_extending(_locate(str(name)), seen=())
    kind: type[RunConfig] = ClassifierConfig if values.get("task") == TASKS[ClassifierConfig] else Config
    return _overridden(kind, values, overrides, str(name))


def load_of(kind: type[Run], name: str | Path | None, overrides: Iterable[str | Override] = ()) -> Run:
    """Load a config of the given class, as `load_config`; raises `ConfigError` also for the other class."""
    values = {"task": TASKS[kind]} if name is None else _read_extending(_locate(str(name)), seen=())
    refuse_other(kind, values.get("task", "detect"), str(name))
    return _overridden(kind, values, overrides, str(name))


def refuse_other(kind: type[BaseModel], task: object, source: str) -> None:
    """Raise `ConfigError` if the `task` of a config is not the one of class `kind`."""
    if task != TASKS[kind] and task in TASKS.values():
        raise ConfigError(
            f"{source}: must be the config of a {PRODUCTS[TASKS[kind]]}, not of a {PRODUCTS[str(task)]}; "
            f"use {COMMANDS[str(task)]}"
        )


def with_overrides(config: Run, overrides: Iterable[str | Override]) -> Run:
    """Return the config with overrides (`KEY=VALUE`) applied. Raises `ConfigError`."""
    return _overridden(type(config), config.model_dump(mode="json"), overrides, "config")


def updated(section: Part, changes: Mapping[str, Any], source: str = "config") -> Part:
    """Return a copy of a config, or of a section of one, with changed values, validated as a whole.

    `changes`: values by dotted key, relative to the section (`{"data.size": (416, 416)}`). Raises `ConfigError` that
    names `source`.
    """
    try:
        return type(section).model_validate(_with_values(section, changes))
    except ValidationError as error:
        raise ConfigError(f"{source}: {explain(type(section), error)}") from error


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
    """Apply all overrides, then validate; an error names the override that caused it, else the source.

    A later override may fix what an earlier one broke: `train.steps=9` needs `train.epochs=null` if that is set.
    """
    changes = [Override.of(override) for override in overrides]
    for change in changes:
        values = _merge(values, change.nested())
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        culprit, problem = _culprit(kind, values, changes, error), explain(kind, error)
        raise ConfigError(culprit.blamed(problem) if culprit else f"{source}: {problem}") from error


def _culprit(
    kind: type[Run], values: Mapping[str, Any], changes: Sequence[Override], error: ValidationError
) -> Override | None:
    """Return the last override without which the first problem disappears."""
    first, *_ = ordered_problems(error)
    for change in reversed(changes):
        try:
            kind.model_validate(_without(values, change.nested()))
        except ValidationError as left:
            if any((other["loc"], other["msg"]) == (first["loc"], first["msg"]) for other in ordered_problems(left)):
                continue
        return change
    return None


def parse_size(text: str) -> tuple[int, int]:
    """Parse `416` or `512x384` to width and height. Raises `ConfigError` for anything else."""
    try:
        size: Any = as_size(text)
    except ValueError as error:
        raise ConfigError(f"size {text!r}: {error}") from error
    return size[0], size[1]


def load_dataset_config(source: str | Path | AnyDataset) -> AnyDataset:
    """Load a data set config, or a joint one (with `sources`), by path or catalogue name; return a loaded one as is.

    The sources of a joint data set are loaded, too; folders stay paths. Raises `ConfigError`.
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
    """Read a data set config; its default name is that of the file. Sources are not loaded."""
    values = _read_yaml(path)
    kind: type[AnyDataset] = JointConfig if "sources" in values else DatasetConfig
    dataset = _validate(kind, values, str(path))
    return dataset if dataset.name else updated(dataset, {"name": path.stem})


def _with_sources(joint: JointConfig, folder: Path, place: str) -> JointConfig:
    """Load the data sets of a joint config, which may lie beside it in `folder`."""
    sources = []
    for index, source in enumerate(joint.sources):
        at = f"{place}: sources.{index}"
        sources.append(_with_dataset(source, folder, at))
        _check_kind(sources[-1].dataset, source.use == "images", at)
    val = joint.val and _with_dataset(joint.val, folder, f"{place}: val")
    if val is not None:
        _check_kind(val.dataset, False, f"{place}: val")
    return updated(joint, {"sources": tuple(sources), "val": val})


def _check_kind(dataset: str | DatasetConfig, images: bool, place: str) -> None:
    """Raise `ConfigError` if the kind of a source does not fit its `use`."""
    if isinstance(dataset, str) and images and is_file(Path(dataset)):
        raise ConfigError(f"{place}: {dataset} is a file of boxes; `use: images` needs a folder of {IMAGE_FOLDERS}")
    if isinstance(dataset, str) or dataset.has_boxes != images:
        return
    hint = f"`use: images` needs {' or '.join(IMAGE_KINDS)}" if images else "it has no boxes: use `use: images`"
    raise ConfigError(f"{place}: data set {dataset.name or dataset.root} is of kind {dataset.kind}; {hint}")


def is_tool_file(path: Path) -> bool:
    """Return whether a file is a data set in the format of a tool, not a config: by its suffix, or a `data.yaml`.

    Raises `ConfigError` if it is not YAML; a broken file called `data.yaml` is one of a tool, whose reader says why.
    """
    if path.suffix.lower() in YAML_SUFFIXES:
        try:
            return is_file(path) and is_data_yaml(load_yaml(path))
        except ConfigError:
            if path.stem in DATA_YAML_STEMS:
                return True
            raise
    return path.suffix.lower() in TOOL_SUFFIXES and is_file(path)


def is_data_yaml(content: object) -> bool:
    """Return whether the content of a YAML file has class names, and no key of our own configs."""
    return isinstance(content, dict) and "names" in content and not {"kind", "sources", "labels"} & content.keys()


def _with_dataset(part: JointPart, folder: Path, place: str) -> JointPart:
    if not isinstance(part.dataset, str):
        return part
    here = expanded(part.dataset)
    beside = folder / here
    found = beside if is_file(beside) else catalogue.find(part.dataset, dataset=True)
    if found is None and part.dataset:
        found = next((path for path in (beside, here) if is_folder(path) or is_tool_file(path)), None)
    if found is not None and (is_folder(found) or is_tool_file(found)):
        return updated(part, {"dataset": str(found)})
    try:
        dataset = _read_dataset(found or _locate_dataset(part.dataset))
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error
    if isinstance(dataset, JointConfig):
        raise ConfigError(f"{place}: {part.dataset} is a joint data set; list its sources instead")
    return updated(part, {"dataset": dataset})


def dump(model: BaseModel) -> str:
    """Return a config as YAML that `load_config` reads back to an equal one."""
    values = model.model_dump(mode="json")
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110)


class _Dumper(yaml.SafeDumper):
    """Quotes also the texts that YAML 1.2 and `yaml_files` read as numbers: `1e3`."""

    def represent_text(self, text: str) -> yaml.Node:
        """Return the node of a text."""
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=None if is_plain_text(text) else "'")


_Dumper.add_representer(str, _Dumper.represent_text)


def _locate(name: str) -> Path:
    path = catalogue.find(name)
    if path is None:
        raise ConfigError(_not_found("config", name, catalogue.config_names()))
    return path


def _not_found(what: str, name: str, known: list[str]) -> str:
    if not name:
        return f"no {what} given; use a path or one of {', '.join(known)}"
    if hidden := unreachable(expanded(name)):
        return f"{quote(name)[1:-1]}: {hidden}"
    near = difflib.get_close_matches(name.removesuffix(".yaml")[:MAX_QUOTED], known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the catalogue has {', '.join(known)}"
    return f"{quote(name)[1:-1]}: no such {what} file, and not in the catalogue; {hint}"


def _read_yaml(path: Path) -> dict[str, Any]:
    values = load_yaml(path)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must be a mapping of keys to values, not a {type(values).__name__}")
    return with_new_names(values, str(path))


def _read_extending(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """Read a config file, merged over the file that it extends."""
    path = path.resolve()
    if path in seen or len(seen) >= MAX_EXTENDS:
        problem = "extends itself" if path in seen else f"more than {MAX_EXTENDS} files extend each other"
        raise ConfigError(f"{path}: {problem}: {' -> '.join(p.name for p in (*seen, path))}")
    values = _read_yaml(path)
    parent = values.pop("extends", None)
    if parent is None:
        return values
    beside = path.parent / str(parent)
    try:
        base = _read_extending(beside if is_file(beside) else _locate(str(parent)), (*seen, path))
    except ConfigError as error:
        if seen:
            raise  # the first of the files that extend each other is the one that the user named
        raise ConfigError(f"{path}: extends: {error}") from error
    return _merge(base, values)


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge `over` into `base`: nested mappings are merged, other values replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _without(values: Mapping[str, Any], keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values without those that the nested `keys` lead to."""
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
        raise ConfigError(f"{source}: {explain(model, error)}") from error
