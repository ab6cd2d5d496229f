"""Old names of config keys and options: they keep working for a release, and each use says the new name.

Paths of keys are dotted, `*` stands for any entry of a list.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

log = logging.getLogger(__name__)

LAST_VERSION = "0.2"  # the last that takes the old names

KEYS: Mapping[str, str] = {  # the old path, and the new name of its last part
    "train.burn_in": "warmup",
    "train.burn_in_power": "warmup_power",
    "train.freeze_as": "freeze_mode",
    "stages.*.burn_in": "warmup",
    "loss.warmup_images": "anchor_warmup",
    "data.augment.recipe": "geometry",
    "sources.*.share": "weight",
    "data.dataset.sources.*.share": "weight",
}
VALUES: Mapping[str, Mapping[str, str]] = {  # by the new path
    "train.freeze_mode": {"still": "frozen"},
}
OPTIONS: Mapping[str, str] = {
    "--max": "--max-detections",
    "--boxed": "--box-supervised",
    "--max-pictures": "--max-images",
    "--smallest": "--min-side",
    "--most-covered": "--max-covered",
}


def with_new_names(values: Mapping[str, Any], source: str | None = None) -> dict[str, Any]:
    """A config as read from YAML or a checkpoint, with each old key and value replaced by its new name.

    `source` is named in one warning per old key; `None`: no warning (checkpoints, which nobody can edit). Where the
    old and the new key are both given, the new one is kept.
    """
    return _renamed(values, "", source)


def _renamed(values: Mapping[str, Any], path: str, source: str | None) -> dict[str, Any]:
    renamed: dict[str, Any] = {}
    for key, value in values.items():
        at = f"{path}{key}"
        new = KEYS.get(at, key)
        if new != key and source is not None:
            log.warning("%s: %s is now %s%s; the old name works up to version %s", source, at, path, new, LAST_VERSION)
        if new == key or new not in values:
            renamed[new] = _value(value, f"{path}{new}", source)
    return renamed


def _value(value: Any, path: str, source: str | None) -> Any:
    if isinstance(value, Mapping):
        return _renamed(value, f"{path}.", source)
    if isinstance(value, list):
        return [_renamed(each, f"{path}.*.", source) if isinstance(each, Mapping) else each for each in value]
    return VALUES.get(path, {}).get(value, value) if isinstance(value, str) else value


def with_new_options(arguments: Sequence[str]) -> list[str]:
    """Command-line arguments with each old option replaced by its new name; one warning for each."""
    return [_new_option(argument) for argument in arguments]


def _new_option(argument: str) -> str:
    old, equals, value = argument.partition("=")
    new = OPTIONS.get(old)
    if new is None:
        return argument
    log.warning("%s is now %s; the old name works up to version %s", old, new, LAST_VERSION)
    return f"{new}{equals}{value}"
