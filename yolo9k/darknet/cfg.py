"""Parse Darknet's cfg files into sections of typed options with line numbers (Darknet `parser.c`, `option_list.c`).

The parser is stricter than Darknet, which reads `64x` as 64 and ignores unknown options. What changes the network is
obeyed or an error, also for options of AlexeyAB's fork. What only training needs is never an error here: a value of the
wrong type is read as Darknet's `atoi` and `atof` do. Unknown options, duplicate options, comments behind values and
options that this package does not follow are warnings, or errors with `strict`.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from yolo9k.darknet.cfg_options import (
    FLOAT,
    FLOAT_LIST,
    FORK_TRAINING,
    INTEGER_LIST,
    MAX_FLOAT,
    MAX_INTEGER,
    NETWORK_OPTIONS,
    NOT_FOLLOWED,
    OPTIONS,
    POLICIES,
    STRIDES,
    STRING,
    UNSUPPORTED,
    OptionType,
)
from yolo9k.errors import WeightsError
from yolo9k.io import read_text

ALIASES = {  # Darknet `parser.c: string_to_layer_type`
    "network": "net",
    "conv": "convolutional",
    "max": "maxpool",
    "avg": "avgpool",
    "soft": "softmax",
}
MAX_BYTES = 1 << 20  # Darknet's largest cfg has 8 thousand
MAX_LAYERS = 2_000  # Darknet's deepest cfg, a DenseNet, has 306
PIXELS = 4  # the smallest anchor of a detector is below in cells, above in pixels
MAX_SHOWN = 40  # characters of a value in a message
MAX_WARNINGS = 20
C_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")  # what `atof` reads of a text

LOG = logging.getLogger(__name__)


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
    def is_grey(self) -> bool:
        """Whether the network's input is grey, one channel. Raises as `check_channels`."""
        self.check_channels()
        return bool(self.net.values["channels"] == 1)

    def check_channels(self) -> None:
        """Raise `WeightsError` if the input is neither RGB nor grey: images have no other channels."""
        if self.net.values["channels"] not in (1, 3):
            raise self.net.error("channels", "not supported; must be 3 (RGB) or 1 (grey)")

    @property
    def stretches(self) -> bool:
        """Whether images are stretched to the input size (`letter_box=0`, in AlexeyAB's fork); else letterboxed."""
        return not self.net.get("letter_box", 1)

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
    text = read_text(path, WeightsError.at, MAX_BYTES)
    return parse_cfg(text, str(path), path.parent, strict=strict)


def parse_cfg(text: str, source: str = "model.cfg", folder: Path | None = None, *, strict: bool = False) -> Cfg:
    """Parse the text of a cfg; `source` is its name in messages. Raises `WeightsError` with the line."""
    warnings: list[str] = []
    sections = [_parse_section(raw, source, warnings) for raw in _split_sections(text, source)]
    if not sections or sections[0].name != "net":
        location = sections[0].location if sections else source
        raise WeightsError(f"{location}: a cfg must begin with [net]")
    if len(sections) - 1 > MAX_LAYERS:
        raise WeightsError(f"{source}: {len(sections) - 1:,} layers; at most {MAX_LAYERS:,} are supported")
    duplicate = next((section for section in sections[1:] if section.name == "net"), None)
    if duplicate is not None:
        raise WeightsError(f"{duplicate.location}: duplicate [net]; a cfg describes one network")
    _check_input_size(sections[0])
    warnings += _anchor_warnings(sections)
    if len(warnings) > MAX_WARNINGS:
        warnings[MAX_WARNINGS:] = [f"{source}: {len(warnings) - MAX_WARNINGS:,} more warnings"]
    cfg = Cfg(sections[0], tuple(sections[1:]), text, folder or Path(), tuple(warnings))
    if strict and cfg.warnings:
        raise WeightsError(cfg.warnings[0])
    return cfg


def _anchor_warnings(sections: Sequence[Section]) -> list[str]:
    """Return a warning if an anchor looks like pixels; anchors of `[region]` are cells.

    Anchors in cells may exceed the grid: those of `yolov2-tiny-voc.cfg`, made for 13 cells, are 1.08 to 16.62 and also
    used with smaller inputs. Anchors in pixels exceed it with the smallest one at several pixels.
    """
    net, *layers = sections
    if not layers or layers[-1].name != "region":
        return []
    grid = max(net.values["width"], net.values["height"]) / _stride(layers)
    anchors = layers[-1].get("anchors", (0,))
    if max(anchors) <= (grid if min(anchors) >= PIXELS else 4 * grid):
        return []
    place = layers[-1].error("anchors", f"{max(anchors):g} is larger than the grid of {grid:g} cells")
    return [f"{place}; anchors of [region] are cells of the last feature map, not pixels"]


def _stride(layers: Sequence[Section]) -> float:
    """Return the input pixels per cell of the last layer, as far as the options tell: sizes are not checked here."""
    strides: list[float] = []
    for index, section in enumerate(layers):
        source = index - 1
        if section.name == "route":
            first = section.get("layers", (-1,))[0]
            source = index + first if first < 0 else first
        before = strides[source] if 0 <= source < index else 1.0
        strides.append(before * max(section.get("stride", 1), 1))
    return strides[-1]


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
    strides: list[tuple[str, float | None]] = []
    for line, key, text in raw.options:
        location = f"{source}:{line}: [{name}] {_shorten(key)}={_shorten(text)}"
        if key in STRIDES:
            strides.append((location, _number(_without_comment(text))))
            continue
        if key not in types:
            warnings.extend(_unknown_option(key, text, location))
            continue
        value, notes = _parse_value(types[key], text, location, key in NETWORK_OPTIONS.get(name, types))
        if values.setdefault(key, value) != value:
            notes.append(f"duplicate option; Darknet uses the first value, from line {lines[key]}")
        if lines.setdefault(key, line) == line:
            notes += _training_notes(name, key, value)
        warnings.extend(f"{location}: {note}" for note in notes)
    stride = values.get("stride", 1)
    for location, number in strides:
        if number is None or number not in (stride, 0, -1):  # below 1: as the stride
            raise WeightsError(
                f"{location}: changes what the layer computes, which is not supported; must be the stride, {stride}"
            )
    return Section(name, source, raw.line, values, lines)


def _unknown_option(key: str, text: str, location: str) -> list[str]:
    """Return warnings about an option of a fork or of nobody. Raises `WeightsError` if it changes a layer's output."""
    number = _number(value := _without_comment(text))
    if key in FORK_TRAINING:
        return [] if number == 0 else [f"{location}: an option of AlexeyAB's fork; training does not follow it"]
    neutral = UNSUPPORTED.get(key)
    if neutral is None:
        return [f"{location}: unknown option; Darknet ignores it"]
    if value not in neutral and (number is None or number not in map(_number, neutral)):
        allowed = f"must be {' or '.join(neutral)}" if neutral else "must be left out"
        raise WeightsError(f"{location}: changes what the layer computes, which is not supported; {allowed}")
    return []


def _training_notes(section: str, key: str, value: Any) -> list[str]:
    """Return warnings about an option whose effect on training differs from Darknet's or its fork's."""
    notes = []
    if value != NOT_FOLLOWED.get(section, {}).get(key, value):
        notes.append("not followed; training will differ from Darknet's")
    if (section, key) == ("region", "random") and value not in (0, 1):
        notes.append("the range of sizes is not followed; sizes are drawn as for random=1")
    if (section, key) == ("net", "policy") and value not in POLICIES:
        notes.append(f"unknown; the learning rate is constant, as in Darknet; known are {', '.join(POLICIES)}")
    if (section, key) == ("net", "letter_box") and not value:
        notes.append("images are stretched to the input size, as in AlexeyAB's fork (data.resize_mode: stretch)")
    return notes


def _parse_value(option_type: OptionType, text: str, location: str, is_network: bool) -> tuple[Any, list[str]]:
    """Return a typed value, and notes on how it was read.

    Raises `WeightsError` for the wrong type of an option of the network; one of training is read as Darknet does.
    """
    notes: list[str] = []
    if option_type is not STRING and (value := _without_comment(text)) != text:
        notes.append(f"the comment is ignored; Darknet reads {_shorten(value)}")
        text = value
    try:
        return option_type.parse(text), notes
    except (ValueError, OverflowError) as error:
        if is_network:
            raise WeightsError(f"{location}: must be {option_type.expected}") from error
    parts = text.split(",") if option_type in (INTEGER_LIST, FLOAT_LIST) else [text]
    read = ",".join(_c_number(part, option_type) for part in parts)
    value = option_type.parse(read)
    notes.append(f"must be {option_type.expected}; read as {_shorten(_format(value))}, as Darknet does")
    return value, notes


def _without_comment(text: str) -> str:
    """Cut a comment behind a value; Darknet's `atoi` ends there, too."""
    return re.split("[#;]", text, maxsplit=1)[0] or text


def _c_number(text: str, option_type: OptionType) -> str:
    """Return the number at the start of a text, as `atoi` and `atof` read it: 0 if there is none."""
    found = C_NUMBER.match(text)
    number = float(found[0]) if found else 0.0
    if option_type in (FLOAT, FLOAT_LIST):
        return str(min(max(number, -MAX_FLOAT), MAX_FLOAT))
    digits = re.match(r"[+-]?\d+", text)
    integer = int(digits[0][:20]) if digits else 0
    return str(min(max(integer, -MAX_INTEGER), MAX_INTEGER))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


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
