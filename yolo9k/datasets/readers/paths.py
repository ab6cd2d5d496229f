"""Find the files that a data set names: paths in its lists, JSON and XML may come from another machine.

A path is first taken as written, from the places its format means. Else the file below the root with the longest
common tail is used: `C:\\data\\images\\a.jpg`, `data/images/a.jpg` and `../upload/4/a.jpg` all find `images/a.jpg`.
Names are the same in any case, Unicode form (macOS decomposes `é`) and URL encoding. Nothing outside the root is ever
opened.
"""

import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

from yolo9k.datasets.readers.records import BadFile, IssueCollector, reading_data
from yolo9k.datasets.readers.split_names import differ_in_split, exact_split
from yolo9k.errors import shorten
from yolo9k.image_formats import is_image_name
from yolo9k.io import is_file, is_folder, visible_files

QUOTES = "\"'"  # around paths in lists
DRIVE = re.compile(r"^[A-Za-z]:")
URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")
MASK_FOLDER = re.compile(r"(?:^|/)segmentation(?:class|object)[^/]*/", re.IGNORECASE)  # VOC's, also labelme2voc's
UPLOAD_HASH = re.compile(r"^[0-9a-f]{8}-(?=.)")  # Label Studio puts one before the name of an uploaded file
SPLIT_LEVELS = 3  # folders above a file that may name its split


class FileFinder:
    """Finds named files below `root`, and counts those that were not where their path says."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.total = 0  # files found
        self._roots = {_absolute(root), os.path.realpath(root)}
        self._moved: Counter[str] = Counter()  # files found by their tail, by the folder that they are in
        self._first = ""

    def find(self, text: str, bases: Iterable[Path], location: object) -> Path:
        """Return the file that `text` names: relative to the first of `bases` that has it, else by its tail.

        `location` is where it is named. Raises `BadFile` if it is missing, outside the root, or could be several.
        """
        is_plain = ".." not in text and not text.startswith(("/", "~"))  # cannot leave its base
        folders = [base / text for base in bases]
        for path in folders:
            if is_file(path) and (is_plain or self.contains(path)):
                self.total += 1
                return path if is_plain else self.below_root(path)
        existing = {path.parent for path in folders if "/" in text and is_plain and is_folder(path.parent)}
        found = self._find_by_tail(text, location, existing)
        self.add_moved(text, found)
        return found

    def add_moved(self, text: str, found: Path) -> None:
        """Count a file that was found elsewhere than where `text` says."""
        self.total += 1
        self._moved[found.parent.relative_to(self.root).as_posix()] += 1
        self._first = self._first or f"{text} is {found.relative_to(self.root).as_posix()}"

    def images_named(self, text: str) -> list[Path]:
        """Return the images below the root with the longest common tail with `text`, a path without its suffix.

        The caller passes the one it uses to `add_moved`.
        """
        parts = path_parts(text)
        return self._longest_tails(parts, self._images_by_stem) if parts else []

    def contains(self, path: Path) -> bool:
        """Return whether a path is below the root as it is written; links are the user's own."""
        absolute = _absolute(path)
        return any(_is_inside(absolute, root) for root in self._roots)

    def below_root(self, path: Path) -> Path:
        """Return a path inside the root as one that begins with it."""
        absolute = _absolute(path)
        root = next(root for root in self._roots if _is_inside(absolute, root))
        return self.root / absolute[len(root) :].lstrip("/")

    def report(self, location: object, issues: IssueCollector) -> None:
        """Add a warning with the number of files that were found by their tail, if there are any."""
        moved = sum(self._moved.values())
        if moved:
            folder = posixpath.commonpath(self._moved) or "."
            message = f"{moved:,} of {self.total:,} paths were found below {folder}/; first: {shorten(self._first)}"
            issues.warn("path from elsewhere", location, message)

    def _find_by_tail(self, text: str, location: object, folders: Set[Path]) -> Path:
        """Return the file with the longest common tail; in one of `folders`, if the text names some that exist."""
        parts = path_parts(text)
        forms = [parts, path_parts(unquote(text)), [*parts[:-1], UPLOAD_HASH.sub("", parts[-1])] if parts else []]
        found = (self._longest_tails(form, self._files_by_name) for form in forms if form)
        allowed = ([path for path in paths if not folders or path.parent in folders] for paths in found)
        candidates = next((paths for paths in allowed if paths), [])
        if len(candidates) == 1:
            return candidates[0]
        shown = shorten(text)
        if candidates:
            names = " or ".join(path.relative_to(self.root).as_posix() for path in candidates[:2])
            raise BadFile("ambiguous path", location, f"{shown!r} could be {names} below {self.root}")
        if folders:  # no namesake elsewhere
            raise BadFile("missing image", location, f"no such image: {shown!r}")
        refused = self._files_by_name.get(name_key(parts[-1])) if parts else None
        if refused:
            why = f"; {shorten(refused[0])} is of another split"
            raise BadFile("missing image", location, f"no such image: {shown!r}{why}")
        outside = next((path for path in (Path(text), self.root / text) if is_file(path)), None)
        why = f"; {outside} is outside the root and is not used" if outside and not self.contains(outside) else ""
        raise BadFile(
            "missing image", location, f"no such image: {shown!r}, also not by its tail below {self.root}{why}"
        )

    def _longest_tails(self, parts: Sequence[str], files: Mapping[str, Sequence[str]]) -> list[Path]:
        """Return those of `files` with the longest common tail; of equally long ones those written in the same way.

        Those of the split that the path names come first; one of another split is not used.
        """
        wanted = [name_key(part) for part in parts]
        namesakes = files.get(wanted[-1], ())
        if not namesakes:  # of a list whose images are gone: nearly all
            return []
        split = _nearest_split(parts)
        of_split = [path for path in namesakes if split and _nearest_split(path.split("/")) == split]
        ranked: dict[tuple[int, int], list[Path]] = {}
        for relative in of_split or namesakes:
            found = relative.split("/")
            if _is_of_other_split(found, parts):
                continue
            same_name = [*map(name_key, found[:-1]), wanted[-1]]
            length = _common_tail(same_name, wanted)
            ranked.setdefault((length, _common_tail(found, parts)), []).append(self.root / relative)
        return ranked[max(ranked)] if ranked else []

    @cached_property
    def _files_by_name(self) -> dict[str, list[str]]:
        """All visible files below the root but VOC's masks: paths relative to it, by `name_key`."""
        files: dict[str, list[str]] = {}
        start = len(str(self.root)) + 1 if str(self.root) != "." else 0
        with reading_data(self.root):
            for path in visible_files(self.root, once=True):
                relative = str(path)[start:]
                if not MASK_FOLDER.search(relative):
                    files.setdefault(name_key(path.name), []).append(relative)
        return files

    @cached_property
    def _images_by_stem(self) -> dict[str, list[str]]:
        """The images below the root, by the `name_key` of their stem."""
        images: dict[str, list[str]] = {}
        for name, relatives in self._files_by_name.items():
            if is_image_name(name):
                images.setdefault(posixpath.splitext(name)[0], []).extend(relatives)
        return images


def name_key(name: str) -> str:
    """Return the form in which names that are written differently are the same: without case, composed."""
    return name.casefold() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100  # `Path.resolve` follows links, which may lead anywhere


def _is_inside(absolute: str, root: str) -> bool:
    return absolute == root or absolute.startswith(root.rstrip("/") + "/")


def _common_tail(one: Sequence[str], other: Sequence[str]) -> int:
    pairs = zip(reversed(one), reversed(other), strict=False)
    return next((length for length, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _nearest_split(parts: Sequence[str]) -> str | None:
    """Return the split that the folders next to a file mean; those further up may be of a user or project (`dev`)."""
    return next((split for part in parts[-2 : -2 - SPLIT_LEVELS : -1] if (split := exact_split(part))), None)


def _is_of_other_split(one: Sequence[str], other: Sequence[str]) -> bool:
    """Return whether folders next to two files, at the same place, mean different splits."""
    places = zip(one[-2 : -2 - SPLIT_LEVELS : -1], other[-2 : -2 - SPLIT_LEVELS : -1], strict=False)
    return any(differ_in_split(a, b) for a, b in places)


def path_parts(text: str) -> list[str]:
    """Split a path of any machine into its parts, without drive, host, `.` and leading `..`."""
    if URL.match(text):
        try:
            text = unquote(urlsplit(text).path)
        except ValueError:  # a URL such as http://[
            return []
    path = posixpath.normpath(DRIVE.sub("", text.strip().strip(QUOTES)).replace("\\", "/"))
    return [part for part in path.split("/") if part not in ("", ".", "..")]


def find_tail(root: Path, text: str) -> Path | None:
    """Return the folder or file that the longest tail of a path names from the root; `None` if none does.

    What names the split (`valid` in `/content/valid/images`) is part of the tail.
    """
    parts = path_parts(text)
    named = [index for index, part in enumerate(parts) if exact_split(part)]
    last = named[-1] if named else len(parts) - 1
    candidates = (_in_any_case(root, parts[start:]) for start in range(last + 1))
    return next((path for path in candidates if path is not None), None)


def _in_any_case(folder: Path, parts: Sequence[str]) -> Path | None:
    """Return the path of these parts below a folder; a part may be written in another way if only one name fits."""
    for part in parts:
        path = folder / part
        if not os.path.lexists(path):
            entries = folder.iterdir() if is_folder(folder) else ()
            similar = [entry for entry in entries if name_key(entry.name) == name_key(part)]
            if len(similar) != 1:
                return None
            path = similar[0]
        folder = path
    return folder if parts else None
