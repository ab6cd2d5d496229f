"""Darknet's cfg files: sections of typed options, each with its line (Darknet `parser.c`, `option_list.c`).

The reader is stricter than Darknet, which reads `64x` as 64 and unknown options as nothing: wrong types are errors
with their place; unknown options, options given twice and those that are not followed here are warnings (errors where
the caller is strict).
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo9k.errors import WeightsError

ALIASES = {  # Darknet `parser.c: string_to_layer_type`
    "network": "net",
    "conv": "convolutional",
    "max": "maxpool",
    "avg": "avgpool",
    "soft": "softmax",
}
LONGEST = 1 << 20  # characters; the largest cfg of Darknet has 8 thousand
MAX_LAYERS = 2_000  # Darknet's longest, of its DenseNet, has 306
LARGEST_INTEGER = 1 << 31  # Darknet reads C's int
LARGEST_NUMBER = 3e38  # and C's float

LOG = logging.getLogger(__name__)


def _integers(text: str) -> tuple[int, ...]:
    return tuple(_integer(part) for part in text.split(","))


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(_number(part) for part in text.split(","))


def _number(text: str) -> float:
    value = float(text)
    if "_" in text or not abs(value) <= LARGEST_NUMBER:  # no NaN either
        raise ValueError(text)
    return value


def _integer(text: str) -> int:
    value = int(text)
    if "_" in text or abs(value) > LARGEST_INTEGER:
        raise ValueError(text)
    return value


def _flag(text: str) -> bool:
    return bool(_integer(text))


@dataclass(frozen=True)
class OptionType:
    """How the text of an option is read, and how to say what is allowed."""

    read: Callable[[str], Any]
    allowed: str


INTEGER = OptionType(_integer, "a whole number")
NUMBER = OptionType(_number, "a number")
FLAG = OptionType(_flag, "0 or 1")
TEXT = OptionType(str, "text")
INTEGERS = OptionType(_integers, "whole numbers separated by commas")
NUMBERS = OptionType(_numbers, "numbers separated by commas")

# What Darknet reads of each section. Options that it reads and does not use are here, too: they are no mistakes.
OPTIONS: Mapping[str, Mapping[str, OptionType]] = {
    "net": {
        **dict.fromkeys(
            ("width", "height", "channels", "inputs", "batch", "subdivisions", "time_steps", "notruth", "burn_in",
             "max_batches", "step", "min_crop", "max_crop", "center", "adam", "random", "flip"),
            INTEGER,
        ),
        **dict.fromkeys(
            ("learning_rate", "momentum", "decay", "power", "scale", "gamma", "angle", "aspect", "saturation",
             "exposure", "hue", "max_ratio", "min_ratio", "clip", "B1", "B2", "eps"),
            NUMBER,
        ),
        "policy": TEXT,
        "steps": INTEGERS,
        "scales": NUMBERS,
    },
    "convolutional": {
        **dict.fromkeys(("filters", "size", "stride", "padding", "groups"), INTEGER),
        **dict.fromkeys(
            ("pad", "batch_normalize", "flipped", "binary", "xnor", "stopbackward", "dontload", "dontloadscales"), FLAG
        ),
        "activation": TEXT,
        **dict.fromkeys(("learning_rate", "clip", "smooth"), NUMBER),
        "numload": INTEGER,
    },
    "maxpool": {**dict.fromkeys(("size", "stride", "padding"), INTEGER), "stopbackward": FLAG},
    "avgpool": {"stopbackward": FLAG},
    "route": {"layers": INTEGERS, "stopbackward": FLAG},
    "reorg": {
        **dict.fromkeys(("stride", "extra"), INTEGER),
        **dict.fromkeys(("reverse", "flatten", "stopbackward"), FLAG),
    },
    "shortcut": {
        "from": INTEGER, "activation": TEXT, **dict.fromkeys(("alpha", "beta"), NUMBER), "stopbackward": FLAG,
    },
    "dropout": {"probability": NUMBER, "stopbackward": FLAG},
    "cost": {
        "type": TEXT, **dict.fromkeys(("scale", "ratio", "noobj", "thresh"), NUMBER), "stopbackward": FLAG,
    },
    "softmax": {
        "groups": INTEGER, "temperature": NUMBER, "tree": TEXT, **dict.fromkeys(("spatial", "noloss"), FLAG),
    },
    "region": {
        **dict.fromkeys(("classes", "coords", "num", "max", "log", "sqrt"), INTEGER),
        **dict.fromkeys(("softmax", "background", "rescore", "classfix", "absolute", "random", "bias_match"), INTEGER),
        **dict.fromkeys(
            ("jitter", "thresh", "object_scale", "noobject_scale", "class_scale", "coord_scale", "mask_scale"), NUMBER
        ),
        "anchors": NUMBERS,
        "tree": TEXT,
        "map": TEXT,
    },
}  # fmt: skip

# What Darknet's training follows and ours does not, with the values that change nothing.
NOT_FOLLOWED: Mapping[str, Mapping[str, float]] = {
    "net": {"adam": 0, "clip": 0},
    "convolutional": {"learning_rate": 1, "clip": 0},
}


@dataclass(frozen=True)
class Section:
    """One section; `values` are typed, `lines` say where each option stands. `place` begins every error about it."""

    name: str
    source: str
    line: int
    values: Mapping[str, Any]
    lines: Mapping[str, int]

    @property
    def place(self) -> str:
        """`file:line: [name]`."""
        return f"{self.source}:{self.line}: [{self.name}]"

    def get(self, key: str, default: Any) -> Any:
        """The value of an option, or Darknet's default."""
        return self.values.get(key, default)

    def integer(self, key: str, default: int, *, least: int, most: int = 1 << 24) -> int:
        """A whole number between `least` and `most`. Raises `WeightsError` for one that is not."""
        value: int = self.values.get(key, default)
        if not least <= value <= most:
            raise self.error(key, f"must be between {least} and {most:,}, not {value}")
        return value

    def error(self, key: str, problem: str) -> WeightsError:
        """An error about one option, with its line."""
        return WeightsError(f"{self.source}:{self.lines.get(key, self.line)}: [{self.name}] {key}: {problem}")


@dataclass(frozen=True)
class Cfg:
    """A cfg file: `[net]`, then the layers in Darknet's numbering (the first after `[net]` is 0).

    `text` is the file as it was; `folder` is where it lay, for `tree=` and `map=`. `warnings` are lines for a person.
    """

    net: Section
    layers: tuple[Section, ...]
    text: str
    folder: Path
    warnings: tuple[str, ...] = ()

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height of the network's input."""
        return self.net.values["width"], self.net.values["height"]

    @property
    def classes(self) -> Section | None:
        """The section that says what the classes are, if there is one: region or softmax."""
        return next((section for section in self.layers if section.name in ("region", "softmax")), None)

    @property
    def region(self) -> Section:
        """The region section. Raises `WeightsError` where the network is no detector."""
        if not self.layers or self.layers[-1].name != "region":
            end = f"ends with [{self.layers[-1].name}]" if self.layers else "has no layers"
            raise WeightsError(f"{self.net.source}: a detector ends with [region]; this cfg {end}")
        return self.layers[-1]

    def log_warnings(self) -> None:
        """Tell whoever listens to this module's logger."""
        for warning in self.warnings:
            LOG.warning("%s", warning)

    def text_with(self, section: Section, key: str, value: str) -> str:
        """The text with another value of an option that stands in it; all other lines stay as they are."""
        lines = self.text.split("\n")
        lines[section.lines[key] - 1] = f"{key}={value}"
        return "\n".join(lines)


def read_cfg(path: str | Path, *, strict: bool = False) -> Cfg:
    """Read a cfg file; `strict` makes warnings errors.

    Raises `WeightsError` with file and line for what is no cfg.
    """
    path = Path(path)
    try:
        if path.stat().st_size > LONGEST:
            raise WeightsError(f"{path}: {path.stat().st_size:,} bytes are too many for a cfg")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise WeightsError(f"{path}: not a cfg: not text") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(f"{path}: cfg cannot be read: {reason}") from error
    return parse_cfg(text, str(path), path.parent, strict=strict)


def parse_cfg(text: str, source: str = "cfg", folder: Path | None = None, *, strict: bool = False) -> Cfg:
    """Read the text of a cfg; `source` is what errors call it. Raises `WeightsError` with the line."""
    warnings: list[str] = []
    sections = [_section(*found, source, warnings) for found in _split(text, source)]
    if strict and warnings:
        raise WeightsError(warnings[0])
    if not sections or sections[0].name != "net":
        start = f"{source}:{sections[0].line}: [{sections[0].name}]" if sections else source
        raise WeightsError(f"{start}: a cfg begins with [net]")
    if len(sections) - 1 > MAX_LAYERS:
        raise WeightsError(f"{source}: {len(sections) - 1:,} layers are more than {MAX_LAYERS:,}")
    for again in (section for section in sections[1:] if section.name == "net"):
        raise WeightsError(f"{again.place}: a second [net]; one cfg describes one network")
    _check_net(sections[0])
    return Cfg(sections[0], tuple(sections[1:]), text, folder or Path(), tuple(warnings))


def _split(text: str, source: str) -> list[tuple[str, int, list[tuple[int, str, str]]]]:
    """Sections as (name, line, [(line, key, text)]); Darknet drops all blanks, also inside a line."""
    sections: list[tuple[str, int, list[tuple[int, str, str]]]] = []
    for number, raw in enumerate(text.split("\n"), 1):
        line = "".join(raw.split())
        if not line or line[0] in "#;":
            continue
        if line[0] == "[":
            if not line.endswith("]") or len(line) == 2:
                raise WeightsError(f"{source}:{number}: {_shown(line)}: a section is written [name]")
            sections.append((line[1:-1], number, []))
            continue
        key, equals, value = line.partition("=")
        if not equals or not key or not value:
            raise WeightsError(f"{source}:{number}: {_shown(line)}: expected [section] or key=value")
        if not sections:
            raise WeightsError(f"{source}:{number}: {_shown(line)}: stands before the first section; begin with [net]")
        sections[-1][2].append((number, key, value))
    return sections


def _section(written: str, line: int, entries: list[tuple[int, str, str]], source: str, warnings: list[str]) -> Section:
    name = ALIASES.get(written, written)
    known = OPTIONS.get(name)
    if known is None:
        raise WeightsError(f"{source}:{line}: [{_shown(written)}]: unknown section; known are {', '.join(OPTIONS)}")
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for number, key, text in entries:
        place = f"{source}:{number}: [{name}] {_shown(key)}"
        if key not in known:
            warnings.append(f"{place}: unknown option, Darknet does not read it")
            continue
        value = _typed(known[key], text, place)
        if values.setdefault(key, value) != value:
            warnings.append(f"{place}: a second value; Darknet uses the first, of line {lines[key]}")
        if lines.setdefault(key, number) == number and value != NOT_FOLLOWED.get(name, {}).get(key, value):
            warnings.append(f"{place}: {_shown(text)} is not followed here; training differs from Darknet's")
    return Section(name, source, line, values, lines)


def _typed(kind: OptionType, text: str, place: str) -> Any:
    try:
        return kind.read(text.rstrip(",") if kind in (INTEGERS, NUMBERS) else text)
    except (ValueError, OverflowError) as error:
        hint = "; a comment needs a line of its own" if "#" in text or ";" in text else ""
        raise WeightsError(f"{place}: must be {kind.allowed}, not {_shown(text)}{hint}") from error


def _check_net(net: Section) -> None:
    for key in ("width", "height", "channels"):
        if key not in net.values:
            raise net.error(key, "is missing; it says what the network takes")
        net.integer(key, 0, least=1, most=1 << 16)


def _shown(text: str) -> str:
    """What was written, as far as it fits into one line."""
    return text if len(text) <= 40 else f"{text[:40]}…"
