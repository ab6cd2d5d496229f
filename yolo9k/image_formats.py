"""The raster formats that are opened, their suffixes, and what is said of images in others.

Files may come from strangers: Pillow knows formats such as EPS, for which it starts programs. They are never opened.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from PIL import features

from yolo9k.io import is_hidden

FORMATS = {  # what is opened, by Pillow's name of the format
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc"),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif", ".hif"),
    "TGA": (".tga",),
    "DIB": (".dib",),
}
WITHOUT_SIGNATURE = ("TGA", "DIB")  # other files may look like them: only opened by their suffixes
FEATURES = {"WEBP": "webp", "JPEG2000": "jpg_2000", "AVIF": "avif"}  # parts of Pillow that a build may lack
HEIF_PLUGIN = "pillow_heif"
HINTS = {  # of formats that may not be readable here
    "WEBP": "install a Pillow with WebP",
    "JPEG2000": "install a Pillow with JPEG 2000",
    "AVIF": "install Pillow 11.3 or newer",
    "HEIF": "install pillow-heif",
}
OTHER_SUFFIXES = (  # images in formats that are never opened
    ".3fr", ".ai", ".arw", ".bpg", ".cr2", ".cr3", ".crw", ".cur", ".dcm", ".dds", ".dng", ".emf", ".eps", ".erf",
    ".exr", ".fits", ".hdr", ".icns", ".ico", ".iiq", ".jls", ".jng", ".jp3", ".jxl", ".jxr", ".kdc", ".mrw", ".nef",
    ".nrw", ".orf", ".pbf", ".pcx", ".pdf", ".pef", ".pfm", ".ps", ".psb", ".psd", ".qoi", ".raf", ".raw", ".rw2",
    ".sgi", ".sr2", ".srf", ".srw", ".svg", ".svgz", ".wdp", ".wmf", ".x3f", ".xbm", ".xcf", ".xpm",
)  # fmt: skip
CONVERT = "convert them to JPEG, PNG or TIFF"


@cache
def readable_formats() -> tuple[str, ...]:
    """Return the formats of `FORMATS` that this installation reads."""
    return tuple(name for name in FORMATS if _can_read(name))


def _can_read(name: str) -> bool:
    if name == "HEIF":
        return _register_heif()
    feature = FEATURES.get(name)
    return feature is None or (feature in {**features.modules, **features.codecs} and bool(features.check(feature)))


def _register_heif() -> bool:
    """Let Pillow read HEIF if its plugin is installed; return whether it can."""
    if find_spec(HEIF_PLUGIN) is None:
        return False
    try:
        import_module(HEIF_PLUGIN).register_heif_opener()
    except (ImportError, OSError):  # a library that it needs is missing
        return False
    return True


@cache
def readable_suffixes() -> tuple[str, ...]:
    """Return the suffixes of images that can be read here, in lower case."""
    return tuple(suffix for name in readable_formats() for suffix in FORMATS[name])


def is_image_file(path: Path) -> bool:
    """Return whether a path has the name of an image; see `is_image_name`."""
    return is_image_name(path.name)


def is_image_name(name: str) -> bool:
    """Return whether a file name is that of a readable image and not hidden; for millions of files a `Path` is slow."""
    return name.lower().endswith(readable_suffixes()) and not is_hidden(name)


def describe_skipped(names: Iterable[str]) -> list[str]:
    """Return a line for each reason for which files with these names are images that cannot be read here, with counts.

    Other files are not counted: "12 .heic files were skipped: install pillow-heif".
    """
    return describe_skipped_suffixes(count_skipped(names))


def count_skipped(names: Iterable[str]) -> "Counter[str]":
    """Count the files with these names that are images that cannot be read here, by suffix."""
    hints = unreadable_suffixes()
    return Counter(suffix for name in names if (suffix := suffix_of(name)) in hints and not is_hidden(name))


def describe_skipped_suffixes(counts: Mapping[str, int]) -> list[str]:
    """Return the lines of `describe_skipped` for the counts of `count_skipped`."""
    by_hint: dict[str, Counter[str]] = {}
    hints = unreadable_suffixes()
    for suffix, count in counts.items():
        by_hint.setdefault(hints[suffix], Counter())[suffix] += count
    return [_describe(found, hint) for hint, found in sorted(by_hint.items())]


def _describe(found: "Counter[str]", hint: str) -> str:
    parts = [f"{count:,} {suffix}" for suffix, count in sorted(found.items())]
    listed = " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
    return f"{listed} {'file was' if sum(found.values()) == 1 else 'files were'} skipped: {hint}"


@cache
def unreadable_suffixes() -> dict[str, str]:
    """Return the suffixes of images that cannot be read here, and what helps."""
    missing = [name for name in FORMATS if name not in readable_formats()]
    return dict.fromkeys(OTHER_SUFFIXES, CONVERT) | {
        suffix: HINTS[name] for name in missing for suffix in FORMATS[name]
    }


def suffix_of(name: str) -> str:
    """Return the suffix of a file name in lower case."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  # for millions of files a `Path` is slow


@lru_cache(maxsize=256)
def formats_of(suffix: str) -> tuple[str, ...]:
    """Return the formats that a file with a suffix may have."""
    return tuple(name for name in readable_formats() if name not in WITHOUT_SIGNATURE or suffix in FORMATS[name])
