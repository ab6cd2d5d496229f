"""Read and write files: one rule for text, hidden files and atomic writes, and one message for each failure.

Files may come from strangers: only regular files are opened (a named pipe or a device would wait for ever), sizes are
bounded, and whatever opening or decoding raises becomes the caller's documented error.
"""

import codecs
import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from yolo9k.errors import DataError, MachineError, Yolo9kError

Identity = tuple[int, int]  # device and number of a file
Failure = Callable[[object, str], Yolo9kError]  # makes the error of a location and a message: `DataError.at`

MAX_NAME_BYTES = 255  # of a file or folder on most file systems
MAX_DRAFT_NAME = 200  # bytes; `replacing` adds a suffix
MAX_TEXT_BYTES = 1 << 26  # 64 MiB: the largest list of images known has a tenth of it
BOMS = (  # the longer first: UTF-32 begins like UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
FOREIGN_NAMES = frozenset(  # of operating systems, network storage and tools; lower case
    ("__macosx", "__pycache__", "@eadir", "#recycle", "@recycle", "#snapshot", "$recycle.bin", "thumbs.db",
     "desktop.ini", "lost+found", "system volume information")
)  # fmt: skip
RUNS = "runs"  # folder of the results of YOLO tools
TASKS_OF_RUNS = ("detect", "segment", "pose", "obb", "classify", "predict", "inference", "track")
OWN_RUN = ("config.yaml", "environment.json")  # in the folder of a run of this package, which may be anywhere
FILES_OF_RUNS = ("args.yaml", "opt.yaml", OWN_RUN[1])  # ultralytics', YOLOv5's, ours, in RUNS/NAME or RUNS/TASK/NAME
KINDS_OF_FILE = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


# --- names


def is_hidden(name: str) -> bool:
    """Return whether a file or folder name is hidden, or foreign to a data set (`.ipynb_checkpoints`, `@eaDir`)."""
    return name.startswith(".") or name.lower() in FOREIGN_NAMES


def holds_results(folder: Path) -> bool:
    """Return whether a folder holds the results of YOLO tools: images with the boxes of a model, no ground truth."""
    if all(is_file(folder / name) for name in OWN_RUN):
        return True
    if folder.name.lower() != RUNS:
        return False
    if all(map(is_folder, folder.glob("*"))) and not any(folder.glob("*/[!.]*")):
        return True  # of a run that has just begun, with its lock
    patterns = [f"{depth}/{name}" for depth in ("*", "*/*") for name in FILES_OF_RUNS]
    return any(is_folder(folder / task) for task in TASKS_OF_RUNS) or any(
        is_file(path) for pattern in patterns for path in folder.glob(pattern)
    )


def is_folder_name(name: str) -> bool:
    """Return whether a visible folder can have this name on Linux, and stays in its parent."""
    try:
        length = len(os.fsencode(name))
    except UnicodeEncodeError:
        return False
    return 0 < length <= MAX_NAME_BYTES and not is_hidden(name) and not {"/", "\0"} & set(name)


def is_file(path: Path) -> bool:
    """Return whether a path is a regular file; false for texts that cannot be a path (too long, with NUL)."""
    return stat.S_ISREG(_mode(path))


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder; false for texts that cannot be a path (too long, with NUL)."""
    return stat.S_ISDIR(_mode(path))


def expanded(path: str) -> Path:
    """Return a path with `~` replaced by the home folder; unchanged if there is none (`~nobody`)."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def exists(path: Path) -> bool:
    """Return whether a path exists; false for texts that cannot be a path, and behind unreadable folders."""
    return _mode(path) != 0


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


def unreachable(path: Path) -> str:
    """Return why nobody can say whether a path exists: an unreadable folder, a circle of links; empty if one can."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return ""
    except OSError as error:
        return "" if error.errno == errno.ENAMETOOLONG else f"cannot be read: {error.strerror}"
    return ""


def visible_files(
    folder: Path, on_error: Callable[[OSError], None] | None = None, *, once: bool = False
) -> Iterator[Path]:
    """Yield the files below a folder at any depth, sorted by path, without hidden and foreign ones, and results.

    Links to folders are followed, but not back to a parent and not to the root of the file system. `once`: folders
    that several links lead to are entered once. An unreadable folder is passed to `on_error` and skipped; without it
    the `OSError` is raised.
    """
    entered = {_identity(Path(folder.absolute().anchor))} - {_identity(folder)}
    # Paths still to visit, the next one last: of a folder with the identities of its parents, of a file with `None`.
    pending: list[tuple[Path, frozenset[Identity] | None]] = [(folder, frozenset(entered))]
    while pending:
        path, parents = pending.pop()
        if parents is None:
            yield path
            continue
        try:
            identity, entries = _identity(path), _visible_entries(path)
        except OSError as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        if identity not in (entered if once else parents):
            entered.add(identity)
            below = parents | {identity}
            pending += [(Path(entry.path), below if is_folder_entry(entry) else None) for entry in reversed(entries)]


def _identity(path: Path) -> Identity:
    status = path.stat()
    return status.st_dev, status.st_ino


def _visible_entries(folder: Path) -> list["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not is_hidden(entry.name)]
    return sorted(
        (entry for entry in visible if not (is_folder_entry(entry) and holds_results(Path(entry.path)))),
        key=lambda entry: entry.name,
    )


def is_folder_entry(entry: "os.DirEntry[str]") -> bool:
    """Return whether an entry is a folder or a link to one.

    False for a link that leads nowhere or in a circle, or to the root of the file system, which is never meant.
    """
    try:
        return entry.is_dir() and not (entry.is_symlink() and Path(entry).samefile(Path(entry).absolute().anchor))
    except OSError:
        return False


def subfolders(folder: Path) -> list[Path]:
    """Return the visible subfolders, sorted; as `visible_files`, also by links, but not to the file system's root.

    Raises `OSError` for an unreadable folder.
    """
    return [Path(entry.path) for entry in _visible_entries(folder) if is_folder_entry(entry)]


# --- reading


@contextmanager
def reading(location: object, fail: Failure = DataError.at) -> Iterator[None]:
    """Convert what opening and decoding a file can raise to the error of `fail`, which names `location`.

    Of a folder, the error names the file or folder in it that cannot be read.
    """
    try:
        yield
    except Yolo9kError:
        raise
    except RecursionError as error:
        raise fail(location, "cannot be read: it is nested too deeply") from error
    except OSError as error:
        inner = isinstance(error.filename, str) and error.filename.startswith(f"{location}{os.sep}")
        raise fail(error.filename if inner else location, f"cannot be read: {error.strerror or error}") from error
    except (ValueError, OverflowError) as error:  # also texts that cannot be a path, and numbers of thousands of digits
        raise fail(location, f"cannot be read: {error}") from error


def check_regular(path: Path, fail: Failure = DataError.at, max_bytes: int | None = None) -> None:
    """Raise the error of `fail` unless `path` is a regular file of at most `max_bytes`."""
    with reading(path, fail):
        status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for is_kind, name in KINDS_OF_FILE if is_kind(status.st_mode)), "no regular file")
        raise fail(path, f"is {kind}; a file is needed")
    if max_bytes is not None and status.st_size > max_bytes:
        raise fail(path, f"{status.st_size:,} bytes; at most {max_bytes:,} are allowed")


def read_text(path: Path, fail: Failure = DataError.at, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """Read a text file: UTF-8, or UTF-16 and UTF-32 with a byte order mark; line ends become `\\n`.

    Raises the error of `fail` for anything but a regular file of this kind and at most `max_bytes`; it names the
    first byte that is not text.
    """
    check_regular(path, fail, max_bytes)
    with reading(path, fail):
        content = path.read_bytes()
    return decode_text(content, path, fail)


def decode_text(content: bytes, location: object, fail: Failure = DataError.at) -> str:
    """Decode the bytes of a text file, as `read_text` does."""
    encoding = next((name for bom, name in BOMS if content.startswith(bom)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"byte {error.start:,} (0x{content[error.start]:02x}, line {line:,})"
        raise fail(location, f"not a text file: {found} is not {encoding.upper()}; save it as UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def read_lines(path: Path, fail: Failure = DataError.at, max_bytes: int = MAX_TEXT_BYTES) -> list[str]:
    """Read the lines of a text file, as `read_text` does, without their ends; only line ends divide them.

    Python's `splitlines` also divides at form feeds and U+2028, which names may contain.
    """
    lines = read_text(path, fail, max_bytes).split("\n")
    return lines if lines[-1] else lines[:-1]


# --- writing


@contextmanager
def writing(path: Path, what: str = "") -> Iterator[None]:
    """Convert an `OSError` in the block to a `MachineError` that names `path`; `what` names the content: "the plot"."""
    try:
        yield
    except OSError as error:
        subject = f"{what} " if what else ""
        raise MachineError(f"{path}: {subject}cannot be written: {error.strerror or error}") from error


@contextmanager
def replacing(path: Path, what: str = "", *, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path to write to; after the block the file is synced and replaces `path` in one step.

    The old file stays unchanged until then, and if the block raises. `sync=False`: for many small files, which may be
    lost if the machine crashes. A link stays a link to its file. Creates the
    folder. Raises `MachineError` if the file cannot be written.
    """
    with writing(path, what):
        target = path.resolve()
        name = os.fsencode(target.name)[:MAX_DRAFT_NAME].decode(errors="ignore")
        draft = target.with_name(f"{name}.{os.getpid()}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            yield draft
            if sync:
                with draft.open("rb+") as file:
                    os.fsync(file.fileno())
            draft.replace(target)
        finally:
            with suppress(OSError):  # it exists only after a failure
                draft.unlink()


def write_text(path: Path, text: str, *, sync: bool = True) -> None:
    """Write UTF-8 text atomically; bytes of file names that are no text become `\\udcXX`. Raises `MachineError`.

    `sync` as for `replacing`.
    """
    with replacing(path, sync=sync) as draft:
        draft.write_text(text, encoding="utf-8", errors="backslashreplace")
