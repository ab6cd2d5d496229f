"""Where images come from: files, folders, patterns, `file:` addresses; and reading them ahead."""

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
from yolo9k.images import ImageSource, is_image_file, read_image

ImageInput = np.ndarray | str | ImageSource
Prepared = TypeVar("Prepared")


def find_images(sources: Sequence[str]) -> list[Path]:
    """The image files that files, folders (with what is below), patterns and `file:` addresses name, in order.

    Raises `DataError` for a source without any.
    """
    found: list[Path] = []
    for source in sources:
        found += _images_of(source)
    return list(dict.fromkeys(found))


def _images_of(source: str) -> list[Path]:
    path = _as_path(source)
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if is_image_file(p) and p.is_file())
        if not inside:
            raise DataError(f"{path}: a folder without images")
        return inside
    if path.exists():
        return [path]
    if any(sign in str(path) for sign in "*?["):
        start = Path(path.anchor)
        matching = sorted(p for p in start.glob(str(path.relative_to(start))) if is_image_file(p) and p.is_file())
        if not matching:
            raise DataError(f"{source}: no image matches")
        return matching
    raise DataError(f"{source}: no such image or folder")


def _as_path(source: str) -> Path:
    parts = urlsplit(source)
    if parts.scheme in ("http", "https"):
        raise DataError(f"{source}: images are not fetched from the network; download it first")
    if parts.scheme != "file":
        return Path(source).expanduser()
    if parts.netloc not in ("", "localhost"):
        raise DataError(f"{source}: a file: address of another machine; write file:///PATH")
    return Path(url2pathname(parts.path))


def read_ahead(
    images: Iterable[ImageInput], prepare: Callable[[np.ndarray], Prepared], ahead: int
) -> Iterator[Prepared | DataError]:
    """Read and prepare images in threads, in order, at most `ahead` before they are asked for.

    In the place of an image that cannot be read comes the error that says why.
    """

    def ready(image: ImageInput) -> Prepared | DataError:
        try:
            return prepare(image if isinstance(image, np.ndarray) else read_image(image))
        except DataError as error:
            return error

    with ThreadPoolExecutor(max_workers=available_cores()) as pool:
        waiting: deque[Future[Prepared | DataError]] = deque()
        for image in images:
            waiting.append(pool.submit(ready, image))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
