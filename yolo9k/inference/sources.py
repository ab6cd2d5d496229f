"""Find the images that paths, folders, patterns and file: URLs name, and read them ahead in threads."""

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
    """Return the images of files, folders (recursively), glob patterns and `file:` URLs, in order, each once.

    Raises `DataError` for a source without images.
    """
    paths = [path for source in sources for path in _find_images_of(source)]
    return list(dict.fromkeys(paths))


def _find_images_of(source: str) -> list[Path]:
    path = _to_path(source)
    if path.is_dir():
        images = sorted(p for p in path.rglob("*") if is_image_file(p) and p.is_file())
        if not images:
            raise DataError(f"{path}: no images in this folder")
        return images
    if path.exists():
        return [path]
    if any(wildcard in str(path) for wildcard in "*?["):
        start = Path(path.anchor)
        matches = sorted(p for p in start.glob(str(path.relative_to(start))) if is_image_file(p) and p.is_file())
        if not matches:
            raise DataError(f"{source}: no image matches this pattern")
        return matches
    raise DataError(f"{source}: no such image or folder")


def _to_path(source: str) -> Path:
    url = urlsplit(source)
    if url.scheme in ("http", "https"):
        raise DataError(f"{source}: URLs are not supported; download the image first")
    if url.scheme != "file":
        return Path(source).expanduser()
    if url.netloc not in ("", "localhost"):
        raise DataError(f"{source}: a file: URL must not name another host; use file:///PATH")
    return Path(url2pathname(url.path))


def read_ahead(
    images: Iterable[ImageInput], prepare: Callable[[np.ndarray], Prepared], ahead: int
) -> Iterator[Prepared | DataError]:
    """Read and prepare images in threads, in order, at most `ahead` images in advance.

    An image that cannot be read yields its `DataError` instead.
    """

    def read(image: ImageInput) -> Prepared | DataError:
        try:
            return prepare(image if isinstance(image, np.ndarray) else read_image(image))
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
