"""Parse Darknet's cfg files into sections of typed options with line numbers (Darknet `parser.c`, `option_list.c`).

The parser is stricter than Darknet, which reads `64x` as 64 and ignores unknown options: a wrong type is an error.
Unknown options, duplicate options and options that this package does not follow are warnings, or errors with `strict`.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from yolo9k.errors import WeightsError

ALIASES = {  # Darknet `parser.c: string_to_layer_type`
    "network": "net",
    "conv": "convolutional",
    "max": "maxpool",
    "avg": "avgpool",
    "soft": "softmax",
}
MAX_BYTES = 1 << 20  # Darknet's largest cfg has 8 thousand
MAX_LAYERS = 2_000  # Darknet's deepest cfg, a DenseNet, has 306
MAX_INTEGER = 1 << 31  # Darknet parses a C int
MAX_FLOAT = 3e38  # and a C float
MAX_SHOWN = 40  # characters of a value in a message

LOG = logging.getLogger(__name__)


def _parse_float(text: str) -> float:
    value = float(text)
    if "_" in text or not abs(value) <= MAX_FLOAT:  # also refuses NaN
        raise ValueError(text)
    return value


def _parse_integer(text: str) -> int:
    value = int(text)
    if "_" in text or abs(value) > MAX_INTEGER:
        raise ValueError(text)
    return value


def _parse_boolean(text: str) -> bool:
    return bool(_parse_integer(text))


def _parse_integers(text: str) -> tuple[int, ...]:
    return tuple(map(_parse_integer, text.rstrip(",").split(",")))


def _parse_floats(text: str) -> tuple[float, ...]:
    return tuple(map(_parse_float, text.rstrip(",").split(",")))


@dataclass(frozen=True)
class OptionType:
    """The type of an option: a parser of its text, and the `expected` format for error messages."""

    parse: Callable[[str], Any]
    expected: str


INTEGER = OptionType(_parse_integer, "an integer")
FLOAT = OptionType(_parse_float, "a number")
BOOLEAN = OptionType(_parse_boolean, "0 or 1")
STRING = OptionType(str, "a string")
INTEGER_LIST = OptionType(_parse_integers, "integers separated by commas")
FLOAT_LIST = OptionType(_parse_floats, "numbers separated by commas")

# All options that Darknet parses in each section, including those that it never uses.
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
            FLOAT,
        ),
        "policy": STRING,
        "steps": INTEGER_LIST,
        "scales": FLOAT_LIST,
    },
    "convolutional": {
        **dict.fromkeys(("filters", "size", "stride", "padding", "groups"), INTEGER),
        **dict.fromkeys(
            ("pad", "batch_normalize", "flipped", "binary", "xnor", "stopbackward", "dontload", "dontloadscales"),
            BOOLEAN,
        ),
        "activation": STRING,
        **dict.fromkeys(("learning_rate", "clip", "smooth"), FLOAT),
        "numload": INTEGER,
    },
    "maxpool": {**dict.fromkeys(("size", "stride", "padding"), INTEGER), "stopbackward": BOOLEAN},
    "avgpool": {"stopbackward": BOOLEAN},
    "route": {"layers": INTEGER_LIST, "stopbackward": BOOLEAN},
    "reorg": {
        **dict.fromkeys(("stride", "extra"), INTEGER),
        **dict.fromkeys(("reverse", "flatten", "stopbackward"), BOOLEAN),
    },
    "shortcut": {
        "from": INTEGER, "activation": STRING, **dict.fromkeys(("alpha", "beta"), FLOAT), "stopbackward": BOOLEAN,
    },
    "dropout": {"probability": FLOAT, "stopbackward": BOOLEAN},
    "cost": {
        "type": STRING, **dict.fromkeys(("scale", "ratio", "noobj", "thresh"), FLOAT), "stopbackward": BOOLEAN,
    },
    "softmax": {
        "groups": INTEGER, "temperature": FLOAT, "tree": STRING, **dict.fromkeys(("spatial", "noloss"), BOOLEAN),
    },
    "region": {
        **dict.fromkeys(("classes", "coords", "num", "max", "log", "sqrt"), INTEGER),
        **dict.fromkeys(("softmax", "background", "rescore", "classfix", "absolute", "random", "bias_match"), INTEGER),
        **dict.fromkeys(
            ("jitter", "thresh", "object_scale", "noobject_scale", "class_scale", "coord_scale", "mask_scale"), FLOAT
        ),
        "anchors": FLOAT_LIST,
        "tree": STRING,
        "map": STRING,
    },
}  # fmt: skip

# Options that change Darknet's training but not ours, with their neutral values.
NOT_FOLLOWED: Mapping[str, Mapping[str, float]] = {
    "net": {"adam": 0, "clip": 0},
    "convolutional": {"learning_rate": 1, "clip": 0},
}


@dataclass(frozen=True)
class Section:
    """One section of a cfg: typed `values` and line numbers (`lines`), both by option."""

    name: str
    source: str
    line: int
    values: Mapping[str, Any]
    lines: Mapping[str, int]

    @property
    def location(self) -> str:
        """The start of an error message: `file:line: [name]`."""
        return f"{self.source}:{self.line}: [{self.name}]"

    def get(self, key: str, default: Any) -> Any:
        """Return the value of an option, or `default` if the option is not set."""
        return self.values.get(key, default)

    def integer(self, key: str, default: int, *, minimum: int, maximum: int = 1 << 24) -> int:
        """Return an integer option. Raises `WeightsError` if it is below `minimum` or above `maximum`."""
        value: int = self.values.get(key, default)
        if not minimum <= value <= maximum:
            raise self.error(key, f"must be between {minimum} and {maximum:,}")
        return value

    def error(self, key: str, problem: str) -> WeightsError:
        """Return an error about an option: `file:line: [name] key=value: problem`."""
        option = f"{key}={_shorten(_format(self.values[key]))}" if key in self.values else key
        return WeightsError(f"{self.source}:{self.lines.get(key, self.line)}: [{self.name}] {option}: {problem}")


@dataclass(frozen=True)
class Cfg:
    """A parsed cfg file: `[net]`, then the layers in Darknet's numbering (the first after `[net]` is 0).

    `text`: the unchanged file. `folder`: the file's folder, for the paths in `tree=` and `map=`. `warnings`: one line
    each.
    """

    net: Section
    layers: tuple[Section, ...]
    text: str
    folder: Path
    warnings: tuple[str, ...] = ()

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height of the network's input, in pixels."""
        return self.net.values["width"], self.net.values["height"]

    @property
    def label_section(self) -> Section | None:
        """The section that defines the classes: the first `[region]` or `[softmax]`; `None` if there is neither."""
        return next((section for section in self.layers if section.name in ("region", "softmax")), None)

    @property
    def region(self) -> Section:
        """The `[region]` section of a detector. Raises `WeightsError` if the last section is another one."""
        if not self.layers or self.layers[-1].name != "region":
            end = f"ends with [{self.layers[-1].name}]" if self.layers else "has no layers"
            raise WeightsError(f"{self.net.source}: a detector must end with [region]; this cfg {end}")
        return self.layers[-1]

    def log_warnings(self) -> None:
        """Log all warnings with this module's logger."""
        for warning in self.warnings:
            LOG.warning("%s", warning)

    def text_with(self, section: Section, key: str, value: str) -> str:
        """Return the text with a new value for an option that is set in `section`; other lines do not change."""
        lines = self.text.split("\n")
        lines[section.lines[key] - 1] = f"{key}={value}"
        return "\n".join(lines)


def read_cfg(path: str | Path, *, strict: bool = False) -> Cfg:
    """Read a cfg file; `strict` turns warnings into errors.

    Raises `WeightsError` with file and line if the file cannot be read or is not a valid cfg.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise WeightsError(f"{path}: {path.stat().st_size:,} bytes are too many for a cfg; at most {MAX_BYTES:,}")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise WeightsError(f"{path}: not a cfg: not a text file") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(f"{path}: cfg cannot be read: {reason}") from error
    return parse_cfg(text, str(path), path.parent, strict=strict)


def parse_cfg(text: str, source: str = "cfg", folder: Path | None = None, *, strict: bool = False) -> Cfg:
    """Parse the text of a cfg; `source` is its name in messages. Raises `WeightsError` with the line."""
    warnings: list[str] = []
    sections = [_parse_section(raw, source, warnings) for raw in _split_sections(text, source)]
    if strict and warnings:
        raise WeightsError(warnings[0])
    if not sections or sections[0].name != "net":
        location = sections[0].location if sections else source
        raise WeightsError(f"{location}: a cfg must begin with [net]")
    if len(sections) - 1 > MAX_LAYERS:
        raise WeightsError(f"{source}: {len(sections) - 1:,} layers; at most {MAX_LAYERS:,} are supported")
    duplicate = next((section for section in sections[1:] if section.name == "net"), None)
    if duplicate is not None:
        raise WeightsError(f"{duplicate.location}: duplicate [net]; a cfg describes one network")
    _check_input_size(sections[0])
    return Cfg(sections[0], tuple(sections[1:]), text, folder or Path(), tuple(warnings))


class _RawSection(NamedTuple):
    """A section before its options are parsed; `options` are (line, key, text)."""

    name: str
    line: int
    options: list[tuple[int, str, str]]


def _split_sections(text: str, source: str) -> list[_RawSection]:
    """Split a cfg into sections. Like Darknet, drop all white space, also inside a line."""
    sections: list[_RawSection] = []
    for line_number, raw_line in enumerate(text.split("\n"), 1):
        line = "".join(raw_line.split())
        location = f"{source}:{line_number}: {_shorten(line)}"
        if not line or line[0] in "#;":
            continue
        if line[0] == "[":
            if not line.endswith("]") or len(line) == 2:
                raise WeightsError(f"{location}: a section must be written as [name]")
            sections.append(_RawSection(line[1:-1], line_number, []))
            continue
        key, equals, value = line.partition("=")
        if not equals or not key or not value:
            raise WeightsError(f"{location}: expected [section] or key=value")
        if not sections:
            raise WeightsError(f"{location}: option before the first section; a cfg must begin with [net]")
        sections[-1].options.append((line_number, key, value))
    return sections


def _parse_section(raw: _RawSection, source: str, warnings: list[str]) -> Section:
    """Parse the options of a section; add to `warnings`."""
    name = ALIASES.get(raw.name, raw.name)
    types = OPTIONS.get(name)
    if types is None:
        raise WeightsError(
            f"{source}:{raw.line}: [{_shorten(raw.name)}]: unknown section; supported: {', '.join(OPTIONS)}"
        )
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for line, key, text in raw.options:
        location = f"{source}:{line}: [{name}] {_shorten(key)}={_shorten(text)}"
        if key not in types:
            warnings.append(f"{location}: unknown option; Darknet ignores it")
            continue
        value = _parse_value(types[key], text, location)
        if values.setdefault(key, value) != value:
            warnings.append(f"{location}: duplicate option; Darknet uses the first value, from line {lines[key]}")
        if lines.setdefault(key, line) == line and value != NOT_FOLLOWED.get(name, {}).get(key, value):
            warnings.append(f"{location}: not followed; training will differ from Darknet's")
    return Section(name, source, raw.line, values, lines)


def _parse_value(option_type: OptionType, text: str, location: str) -> Any:
    try:
        return option_type.parse(text)
    except (ValueError, OverflowError) as error:
        hint = "; put comments on a line of their own" if "#" in text or ";" in text else ""
        raise WeightsError(f"{location}: must be {option_type.expected}{hint}") from error


def _check_input_size(net: Section) -> None:
    for key in ("width", "height", "channels"):
        if key not in net.values:
            raise net.error(key, "missing; [net] must set width, height and channels of the input")
        net.integer(key, 0, minimum=1, maximum=1 << 16)


def _format(value: Any) -> str:
    """Format a typed value as in a cfg."""
    if isinstance(value, tuple):
        return ",".join(map(_format, value))
    return str(int(value)) if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _shorten(text: str) -> str:
    """Cut a text that is too long for a message."""
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
