"""Find the images that paths, folders, patterns and file: URLs name, and read them ahead in threads."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatch
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np

from yolo9k.errors import DataError
from yolo9k.image_formats import describe_skipped, is_image_name
from yolo9k.images import ImageSource, NeededSize, SizeWH, reading_reduced
from yolo9k.io import check_regular, exists, is_folder, is_folder_entry, is_hidden, reading, visible_files
from yolo9k.machine import available_cores
from yolo9k.progress import Track, silent

ImageInput = np.ndarray | str | ImageSource
Prepared = TypeVar("Prepared")
Result = TypeVar("Result")
WILDCARDS = "*?["
ANY_FOLDERS = "**"


@dataclass
class _Listing:
    """The images that a folder or pattern names, the names of other files, and the folders that are unreadable."""

    images: list[Path] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    errors: list[OSError] = field(default_factory=list)

    def add(self, path: Path) -> None:
        """Add a file."""
        if is_image_name(path.name.lstrip(".")):  # hidden names come from patterns that ask for them
            self.images.append(path)
        else:
            self.others.append(path.name)

    def warnings(self) -> list[str]:
        """Return a line for each kind of what is left out."""
        lines = describe_skipped(self.others)
        count = len({error.filename for error in self.errors})  # a pattern with ** lists a folder twice
        if count:
            folders = "1 unreadable folder" if count == 1 else f"{count} unreadable folders"
            lines.append(f"{folders} skipped; first: {self.errors[0].filename}: {self.errors[0].strerror}")
        return lines


def find_images(
    sources: Sequence[str], track: Track = silent, on_skipped: Callable[[str], None] | None = None
) -> list[Path]:
    """Return the images of files, folders (recursively), glob patterns and `file:` URLs, in order, each once.

    What exists is taken as it is named, whatever characters its name has. Folders are listed without hidden and
    foreign files; `on_skipped` receives a line for images in formats that cannot be read here, and for unreadable
    folders. Raises `DataError` for a source without images, for anything but files and folders, and for the root of a
    file system.
    """
    listings = [_list(source, track) for source in sources]
    for line in dict.fromkeys(line for listing in listings for line in listing.warnings()):
        if on_skipped is not None:
            on_skipped(line)
    return list(dict.fromkeys(path for listing in listings for path in listing.images))


def _list(source: str, track: Track) -> _Listing:
    path = _to_path(source)
    if is_folder(path):
        return _list_folder(path, track)
    if _exists(path):
        check_regular(path)
        return _Listing([path])
    if _has_wildcard(str(path)):
        return _list_matches(path, source, track)
    raise DataError(f"{source}: no such image or folder")


def _has_wildcard(text: str) -> bool:
    return any(wildcard in text for wildcard in WILDCARDS)


def _exists(path: Path) -> bool:
    """Return whether a path exists. Raises `DataError` for a text that cannot be a path, and if a folder forbids it."""
    with reading(path):
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
    return True


def _list_folder(folder: Path, track: Track) -> _Listing:
    _refuse_root(folder)
    listing = _Listing()
    with reading(folder):
        os.scandir(folder).close()  # the folder itself must be readable
    for path in track(visible_files(folder, listing.errors.append, once=True), "Listing images"):
        listing.add(path)
    return _checked(listing, f"{folder}: no images in this folder")


def _list_matches(pattern: Path, source: str, track: Track) -> _Listing:
    listing = _Listing()
    start = Path(pattern.anchor)
    parts = list(pattern.relative_to(start).parts)
    if ANY_FOLDERS in parts:
        _refuse_root(start.joinpath(*takewhile(lambda part: not _has_wildcard(part), parts)))
    for path in track(_expand(start, parts, listing.errors.append), "Listing images"):
        listing.add(path)
    return _checked(listing, f"{source}: no image matches this pattern")


def _checked(listing: _Listing, message: str) -> _Listing:
    """Return a listing that has images. Raises `DataError` with the message and with what was left out."""
    if not listing.images:
        raise DataError("; ".join([message, *listing.warnings()]))
    return listing


def _refuse_root(folder: Path) -> None:
    """Raise `DataError` for the root of a file system: it would be listed for hours."""
    with reading(folder):
        if is_folder(folder) and folder.samefile(Path(folder.absolute().anchor)):
            raise DataError(f"{folder}: the root of the file system is not searched for images; name a folder in it")


def _expand(folder: Path, parts: list[str], on_error: Callable[[OSError], None]) -> Iterator[Path]:
    """Yield the files below `folder` that match a pattern, given as its parts, sorted.

    A part that exists is taken literally. Wildcards match hidden names only if the part begins with a dot.
    """
    part, rest = parts[0], parts[1:]
    if part == ANY_FOLDERS:
        yield from _expand_any_folders(folder, rest, on_error)
    elif exists(folder / part) or not _has_wildcard(part):
        path = folder / part
        if rest and is_folder(path):
            yield from _expand(path, rest, on_error)
        elif not rest and exists(path) and not is_folder(path):
            yield path
    else:
        for entry in _entries(folder, part, on_error):
            if not rest and not is_folder_entry(entry):
                yield folder / entry.name
            elif rest and is_folder_entry(entry):
                yield from _expand(folder / entry.name, rest, on_error)


def _expand_any_folders(folder: Path, rest: list[str], on_error: Callable[[OSError], None]) -> Iterator[Path]:
    """Yield the matches of `rest` in a folder and in all folders below it; links are not followed."""
    if not rest or rest[0] == ANY_FOLDERS:
        yield from _expand(folder, rest or ["*"], on_error)
        return
    yield from _expand(folder, rest, on_error)
    for entry in _entries(folder, "*", on_error):
        if is_folder_entry(entry) and not entry.is_symlink():
            yield from _expand_any_folders(folder / entry.name, rest, on_error)


def _entries(folder: Path, part: str, on_error: Callable[[OSError], None]) -> list["os.DirEntry[str]"]:
    """Return the entries of a folder whose names match a part of a pattern."""
    try:
        with os.scandir(folder) as entries:
            matches = [entry for entry in entries if fnmatch(entry.name, part)]
    except OSError as error:
        on_error(error)
        return []
    return sorted(
        (entry for entry in matches if part.startswith(".") or not is_hidden(entry.name)), key=lambda entry: entry.name
    )


def _to_path(source: str) -> Path:
    if source.lower().startswith("file:"):
        return _path_of_url(source)
    path = Path(source)
    if "://" in source and not _exists(path):
        raise DataError(f"{source}: URLs are not supported; download the image first")
    if not source.startswith("~") or _exists(path):
        return path
    try:
        return path.expanduser()
    except RuntimeError as error:  # no such user, or no home
        raise DataError(f"{source}: no such user or home folder") from error


def _path_of_url(source: str) -> Path:
    with reading(source):
        url = urlsplit(source)
        path = Path(url2pathname(url.path))
    if url.netloc not in ("", "localhost"):
        raise DataError(f"{source}: a file: URL must not name another host; use file:///PATH")
    return path


def read_ahead(
    images: Iterable[ImageInput], prepare: Callable[[np.ndarray, SizeWH], Prepared], needed: NeededSize, ahead: int
) -> Iterator[Prepared | DataError]:
    """Read and prepare images in threads, in order, at most `ahead` images in advance.

    `prepare` gets the pixels, and width and height of the whole image: files are read at the size that is `needed`
    (`images.read_reduced`). An image that cannot be read yields its `DataError` instead.
    """

    def read(image: ImageInput) -> Prepared | DataError:
        try:
            if isinstance(image, np.ndarray):
                return prepare(image, image.shape[1::-1])
            with reading_reduced(image, needed) as (pixels, image_wh):
                return prepare(pixels, image_wh)
        except DataError as error:
            return error

    with ThreadPoolExecutor(max_workers=available_cores()) as pool:
        pending: deque[Future[Prepared | DataError]] = deque()
        for image in images:
            pending.append(pool.submit(read, image))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def stream_results(
    stream: Callable[..., Iterator[Result]],
    images: Sequence[ImageInput],
    track: Track,
    title: str,
    *,
    count: Callable[[Result], int] = len,  # type: ignore[assignment]
    **options: Any,
) -> Iterator[tuple[Result, DataError | None]]:
    """Yield the result of each image with its error, which only unreadable images have; `track` shows the progress.

    `stream` is that of a `Detector` or `ImageClassifier`, and takes the `options`. `count` returns how many detections
    or labels a result has.
    """
    errors: deque[DataError] = deque()
    for result in track(stream(images, on_unreadable=errors.append, **options), title, len(images)):
        is_unreadable = errors and not count(result)  # errors come before their result; some with those of their batch
        yield result, errors.popleft() if is_unreadable else None
