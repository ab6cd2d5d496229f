"""Choose fonts for texts of any script: names of classes and files come from strangers and may hold anything.

ASCII is drawn in Pillow's built-in font. For other texts DejaVu Sans, which matplotlib brings, is tried first (Latin,
Greek, Cyrillic, Arabic, ...), then the fonts of the system. A character that no font has is written as its code point
(`U+4E2D`), never as an empty box.
"""

import logging
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import ImageDraw, ImageFont, features

if TYPE_CHECKING:
    from matplotlib.font_manager import FontProperties

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

log = logging.getLogger(__name__)

BUILT_IN = frozenset(map(chr, range(32, 127))) | {"…"}  # characters of Pillow's font
MAX_CHARACTERS = 200  # of a text that is drawn
MAX_PLOT_CHARACTERS = 60  # longer ones would leave no room for the axes
MAX_CODE_POINTS = 8  # of a text that is nothing but invisible characters
JOINERS = frozenset("\u200c\u200d")  # invisible; they shape Persian and Indic scripts
VARIATION_SELECTORS = range(0xFE00, 0xFE10)
RIGHT_TO_LEFT = ("R", "AL", "AN")  # of Unicode's bidirectional classes
SHAPED = (range(0x0900, 0x0E00), range(0x0F00, 0x10A0), range(0x1780, 0x1800))  # Indic scripts, Tibetan, Burmese, Khmer
PLACEHOLDERS = ("lastresort", "adobeblank", "notdef")  # names of fonts whose glyphs are boxes or empty
UNUSUAL = ("bold", "italic", "oblique", "light", "thin", "black", "mono", "condensed", "serif", "math")
PROBE_PX = 20
SHAPING_MATPLOTLIB = (3, 11)  # joins letters and turns them round


# --- texts


def harmless(text: str) -> str:
    """Return a text as one line of bounded length, without control characters; not empty unless the text is."""
    if len(text) > MAX_CHARACTERS:
        text = text[: MAX_CHARACTERS - 1] + "…"
    if text.isascii() and text.isprintable():
        return text
    shown = "".join(map(_harmless_character, unicodedata.normalize("NFC", text)))
    return shown if shown.strip() else _code_points(text[:MAX_CODE_POINTS])


def _harmless_character(character: str) -> str:
    """Return a space for control characters and line breaks, and nothing for what is invisible."""
    kind = unicodedata.category(character)
    if kind in ("Cc", "Zl", "Zp", "Zs"):
        return " "
    is_invisible = (kind == "Cf" and character not in JOINERS) or ord(character) in VARIATION_SELECTORS
    return "" if is_invisible else character


def _with_code_points(text: str, missing: frozenset[str]) -> str:
    """Return a text with the code points of what is missing, separated by spaces."""
    groups = ((is_missing, list(group)) for is_missing, group in groupby(text, missing.__contains__))
    return "".join(_code_points(group) if is_missing else "".join(group) for is_missing, group in groups)


def _code_points(characters: Iterable[str]) -> str:
    return " ".join(f"U+{ord(each):04X}" for each in characters)


# --- lines for Pillow


@dataclass(frozen=True)
class Line:
    """A line of text that can be drawn: pieces of one font each, from left to right; `size`: in pixels."""

    pieces: tuple[tuple[str, Font], ...]
    size: float

    @property
    def width(self) -> float:
        """Return the width in pixels."""
        return sum(font.getlength(text) for text, font in self.pieces)

    def draw(self, draw: ImageDraw.ImageDraw, left_middle: tuple[float, float], fill: tuple[int, int, int]) -> None:
        """Draw the line; `left_middle`: its left end, at half its height."""
        x, y = left_middle
        anchor = "lm"
        if len(self.pieces) > 1:  # fonts differ in height: they share the baseline of DejaVu Sans
            anchor, y = "ls", y + 0.35 * self.size
        for text, font in self.pieces:
            draw.text((x, y), text, fill=fill, font=font, anchor=anchor)
            x += font.getlength(text)


def make_line(text: str, size: float) -> Line:
    """Return a text as a line that can be drawn: harmless, in fonts that have its characters."""
    text = harmless(text)
    needed = frozenset(text) - BUILT_IN
    if not needed:
        return Line(((text, _load("", size)),), size)
    if not _shapes():
        text = "".join(each for each in text if each not in JOINERS)
    paths = _choose(needed - JOINERS)
    missing = needed - JOINERS - frozenset().union(*(_drawable(path, needed) for path in paths))
    return Line(
        tuple((piece, _load(path, size)) for piece, path in _split(_with_code_points(text, missing), paths)), size
    )


def _split(text: str, paths: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield pieces of a text with the font of each: the first that has all of it, else as few pieces as possible."""
    whole = next((path for path in paths if _has_all(path, text)), None)
    if whole is not None or not paths:
        yield text, whole or ""
        return
    piece, current = "", paths[0]
    for character in text:
        if not _has_all(current, character):
            fitting = next((path for path in paths if _has_all(path, character)), "")
            if piece:
                yield piece, current
            piece, current = "", fitting
        piece += character
    yield piece, current


def _has_all(path: str, text: str) -> bool:
    if not path:
        return BUILT_IN.issuperset(text)
    return all(each in JOINERS or ord(each) in _character_map(path) for each in text)


@lru_cache(maxsize=256)
def _load(path: str, size: float) -> Font:
    """Load a font; "": Pillow's own."""
    return ImageFont.truetype(path, size) if path else ImageFont.load_default(size)


# --- texts for matplotlib


def plot_texts(texts: Iterable[str]) -> tuple[list[str], "FontProperties"]:
    """Return texts as matplotlib draws them literally, and their fonts; `$` is no formula, `_` hides no label.

    Texts are shortened to `MAX_PLOT_CHARACTERS`.
    """
    from matplotlib import __version_info__
    from matplotlib.font_manager import FontProperties, fontManager

    lines = [harmless(text) for text in texts]
    needed = frozenset().union(*lines) - BUILT_IN - JOINERS
    shown = needed if __version_info__[:2] >= SHAPING_MATPLOTLIB else frozenset(c for c in needed if not _is_shaped(c))
    paths = _choose(shown)
    missing = needed - frozenset().union(*(_drawable(path, shown) for path in paths))
    known = {entry.fname for entry in fontManager.ttflist}
    for path in paths:
        if path not in known:
            fontManager.addfont(path)
    families = ["DejaVu Sans", *(FontProperties(fname=path).get_name() for path in paths)]
    texts = [_literal(_with_code_points(line, missing)) for line in lines]
    return texts, FontProperties(family=list(dict.fromkeys(families)))


def _literal(text: str) -> str:
    text = "".join(each for each in text if each not in JOINERS)
    if len(text) > MAX_PLOT_CHARACTERS:
        text = text[: MAX_PLOT_CHARACTERS - 1] + "…"
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


# --- fonts


@lru_cache(maxsize=4096)
def _choose(characters: frozenset[str]) -> tuple[str, ...]:
    """Return the paths of the fonts that together have most of the characters, few and plain ones first."""
    chosen: list[str] = []
    missing = characters
    while missing:
        best, found = "", frozenset[str]()
        for path in _candidates():
            drawable = _drawable(path, missing)
            if len(drawable) > len(found):
                best, found = path, drawable
            if found == missing:
                break
        if not found:
            _warn_of_missing()
            break
        chosen.append(best)
        missing -= found
    return tuple(chosen)


def _candidates() -> Iterator[str]:
    from matplotlib import get_data_path

    yield str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))
    yield from system_fonts()


@cache
def system_fonts() -> tuple[str, ...]:
    """Return the paths of the fonts of this system, plain ones first, in an order that does not depend on the disk."""
    from matplotlib.font_manager import findSystemFonts

    def rank(path: str) -> tuple[int, bool, str, str]:
        name = Path(path).stem.lower()
        return sum(word in name for word in UNUSUAL), "sans" not in name, name, path

    names = ((path, Path(path).stem.lower().replace(" ", "")) for path in findSystemFonts())
    return tuple(sorted((path for path, name in names if not any(word in name for word in PLACEHOLDERS)), key=rank))


def _drawable(path: str, characters: frozenset[str]) -> frozenset[str]:
    """Return those of the characters that a font really draws."""
    return frozenset(each for each in characters if ord(each) in _character_map(path) and _has_ink(path, each))


@cache
def _character_map(path: str) -> frozenset[int]:
    """Return the code points that a font has glyphs for; none if it cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (RuntimeError, OSError, ValueError, TypeError):
        return frozenset()


@lru_cache(maxsize=1 << 16)
def _has_ink(path: str, character: str) -> bool:
    """Return whether Pillow draws a character: bitmap and colour fonts have no outlines, others need shaping."""
    if _is_shaped(character) and not _shapes():
        return False
    try:
        return _load(path, PROBE_PX).getmask(character).getbbox() is not None
    except (OSError, ValueError):
        return False


def _is_shaped(character: str) -> bool:
    """Return whether a character is written from right to left, or changes its form with its neighbours."""
    return unicodedata.bidirectional(character) in RIGHT_TO_LEFT or any(ord(character) in block for block in SHAPED)


@cache
def _shapes() -> bool:
    """Return whether Pillow joins letters and writes from right to left."""
    return bool(features.check("raqm"))


@cache
def _warn_of_missing() -> None:
    """Log that characters are drawn as code points; being cached, once."""
    log.warning(
        "no font of this system has all characters of the names: the others are drawn as code points (U+4E2D); "
        "install a font for their script, such as Noto Sans"
    )
