"""Make names and messages safe for terminals: they may hold escape sequences, line breaks and 20,000 letters."""

import re

MAX_LENGTH = 2_000  # characters of a line that is printed

UNSAFE = re.compile(  # no letter of any script, and no joiner of emoji and of Persian words (U+200C, U+200D)
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f"  # controls of 7 and 8 bits, invisible marks
    "\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # line ends, changes of direction, tags
    "\ud800-\udfff]"  # lone surrogates: bytes of a file name that are no text
)
ASCII = {"…": "...", "█": "#", "░": "."}  # what this program itself prints; other characters become escapes


def one_line(text: str) -> str:
    """Return `text` as one line without anything that a terminal acts on, its middle cut if it is too long.

    Control characters, changes of direction and line ends become escapes: `\\x1b`, `\\u202e`, `\\n`.
    """
    if len(text) > 2 * MAX_LENGTH:  # escapes only make it longer
        text = _cut(text, 2 * MAX_LENGTH)
    return _cut(safe(text), MAX_LENGTH)


def safe(text: str) -> str:
    """Return `text` with escapes in place of control characters and line ends; its length is not limited."""
    return UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def safe_lines(text: str) -> str:
    """Return a text of several lines as `safe` does, its line ends and tabs unchanged."""
    return "\n".join("\t".join(map(safe, line.split("\t"))) for line in text.split("\n"))


def _cut(text: str, length: int) -> str:
    if len(text) <= length:
        return text
    kept = (length - 1) // 2
    return f"{text[:kept]}…{text[-kept:]}"


def in_encoding(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that a stream's encoding lacks: a handler of `codecs.register_error`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    replaced = (ASCII.get(each) or each.encode("ascii", "backslashreplace").decode("ascii") for each in missing)
    return "".join(replaced), error.end
