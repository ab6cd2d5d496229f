"""Where pictures come from: files, folders, patterns, `file:` addresses; and reading them ahead."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np

from yolo9k.errors import DataError
from yolo9k.hardware import available_cores
from yolo9k.images import PictureFile, is_picture, read_image

Picture = np.ndarray | str | PictureFile
Prepared = TypeVar("Prepared")


def find_pictures(sources: Sequence[str]) -> list[Path]:
    """The picture files that files, folders (with what is below), patterns and `file:` addresses name, in order.

    Raises `DataError` for a source without any.
    """
    found: list[Path] = []
    for source in sources:
        found += _pictures_of(source)
    return list(dict.fromkeys(found))


def _pictures_of(source: str) -> list[Path]:
    path = _as_path(source)
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if is_picture(p) and p.is_file())
        if not inside:
            raise DataError(f"{path}: a folder without pictures")
        return inside
    if path.exists():
        return [path]
    if any(sign in str(path) for sign in "*?["):
        start = Path(path.anchor)
        matching = sorted(p for p in start.glob(str(path.relative_to(start))) if is_picture(p) and p.is_file())
        if not matching:
            raise DataError(f"{source}: no picture matches")
        return matching
    raise DataError(f"{source}: no such picture or folder")


def _as_path(source: str) -> Path:
    parts = urlsplit(source)
    if parts.scheme in ("http", "https"):
        raise DataError(f"{source}: pictures are not fetched from the network; download it first")
    if parts.scheme != "file":
        return Path(source).expanduser()
    if parts.netloc not in ("", "localhost"):
        raise DataError(f"{source}: a file: address of another machine; write file:///PATH")
    return Path(url2pathname(parts.path))


def read_ahead(
    pictures: Iterable[Picture], prepare: Callable[[np.ndarray], Prepared], ahead: int
) -> Iterator[Prepared | DataError]:
    """Read and prepare pictures in threads, in order, at most `ahead` before they are asked for.

    In the place of a picture that cannot be read comes the error that says why.
    """

    def ready(picture: Picture) -> Prepared | DataError:
        try:
            return prepare(picture if isinstance(picture, np.ndarray) else read_image(picture))
        except DataError as error:
            return error

    with ThreadPoolExecutor(max_workers=available_cores()) as pool:
        waiting: deque[Future[Prepared | DataError]] = deque()
        for picture in pictures:
            waiting.append(pool.submit(ready, picture))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
