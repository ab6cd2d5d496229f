"""Outputs of commands: checked before work that may take minutes, and opened; nothing is overwritten by mistake.

What a command writes never replaces one of its inputs. A file that the same option wrote before is replaced; any other
existing file is kept unless `--overwrite` is given.
"""

import errno
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, combinations
from pathlib import Path
from typing import TextIO

from yolo9k import processes
from yolo9k.errors import ConfigError, MachineError
from yolo9k.io import is_file, replacing, writing

Target = str | Path | None
Targets = Mapping[str, Target | Iterable[Target]]
NO_TARGETS: Targets = {}

STANDARD_OUTPUT = frozenset(("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"))
PROBE = bytes(4096)  # a block, which a full disk refuses
END_BYTES = 4096
WRITER = "yolo9k"  # first key of each JSON object that is written, with the version
JSON_START = re.compile(rb'\{\n "yolo9k": "|\[\n \{\n  "(image_id|name)": |\[\]\n$')  # lists: COCO results, doctor
IMAGE = re.compile(rb"(\x89PNG|\xff\xd8|%PDF|<\?xml).*yolo9k", re.DOTALL)  # of `drawing.save_image` and `save_figure`
RESULTS = {  # what a file contains, at its start or end, that this option wrote before
    "--json": JSON_START,
    "--results": JSON_START,
    "--csv": re.compile(rb"file,label,score,"),
    "--txt": re.compile(rb"\d+( [\d.e+-]+){5}\n"),
    "--plot": IMAGE,
    "--plots": IMAGE,
    "--out": IMAGE,
}
IMAGE_FOLDERS = {"--plots"}  # of these options; such a folder contains no images but theirs
IMAGE_SUFFIXES = (".png", ".jpg")


def is_standard_output(target: object) -> bool:
    """Return whether an output is standard output: `-` or one of its names as a device."""
    return str(target) in STANDARD_OUTPUT


def check_outputs(
    files: Targets = NO_TARGETS,
    folders: Targets = NO_TARGETS,
    *,
    inputs: Iterable[Target] = (),
    overwrite: bool = False,
) -> None:
    """Check that files and folders, by the option that names them, can be written; nothing is created or changed.

    `inputs`: files and folders that the command reads; texts that are no path are skipped, as are options that are not
    given. Raises `MachineError` if an output cannot be written (no permission, no space, a file in the place of a
    folder), and `ConfigError` if two are the same or `check_overwriting` refuses one. Of several processes the main one
    checks.
    """
    to_files, to_folders = list(_given(files)), list(_given(folders))
    processes.from_main(lambda: _check(to_files, to_folders, list(inputs), overwrite=overwrite))


def _check(
    to_files: Sequence[tuple[str, str | Path]],
    to_folders: Sequence[tuple[str, str | Path]],
    read: Sequence[Target],
    *,
    overwrite: bool,
) -> None:
    for (option, target), (other, second) in combinations([*to_files, *to_folders], 2):
        if _is_same_place(target, second):
            raise ConfigError(f"{option} and {other}: both are {target}; choose another file for one of them")
    for targets, is_folder in ((to_files, False), (to_folders, True)):
        for option, target in targets:
            if not is_standard_output(target) and (reason := _obstacle(Path(target), is_folder=is_folder)):
                raise MachineError(f"{option} {target}: cannot be written: {reason}")
    for option, target in to_files:
        if not is_standard_output(target):
            check_overwriting(option, [Path(target)], inputs=read, overwrite=overwrite)
    for option, target in to_folders:
        if option in IMAGE_FOLDERS:
            check_overwriting(option, _images_in(Path(target)), inputs=read, overwrite=overwrite)


def check_overwriting(
    option: str, targets: Iterable[Path], *, inputs: Iterable[Target] = (), overwrite: bool = False
) -> None:
    """Raise `ConfigError` if a target exists and must be kept.

    That is an input, always, also through a link; a file in an input folder, unless the option wrote it; and without
    `overwrite` any file that the option did not write. Empty files, pipes and devices may be written.
    """
    existing = [target for target in targets if is_file(target)]
    if not existing:
        return
    identities = {identity: path for path in _paths(inputs) if (identity := _identity(path))}
    for target in existing:
        if _identity(target) in identities:
            raise ConfigError(f"{option} {target}: is an input of this command; choose another file")
        if _is_result(option, target):
            continue
        parents = (_identity(parent) for parent in target.resolve().parents)
        if folder := next((identities[parent] for parent in parents if parent in identities), None):
            raise ConfigError(f"{option} {target}: is a file of the input {folder}; choose another file")
        if not overwrite:
            raise ConfigError(
                f"{option} {target}: already exists, and {option} has not written it; choose another file, or give "
                "--overwrite"
            )


@contextmanager
def open_output(target: str | Path) -> Iterator[TextIO]:
    """Open a text file to write: UTF-8, with lone surrogates (file names that are no text) as `\\udcff`.

    A regular file is replaced when the block ends without an error. Pipes, devices and standard output are written to
    directly. Raises `MachineError` if it cannot be written.
    """
    if is_standard_output(target):
        yield sys.stdout
        return
    path = Path(target)
    settings = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    if path.exists() and not path.is_file():
        with writing(path), path.open("w", **settings) as file:  # type: ignore[call-overload]
            yield file
    else:
        with replacing(path) as draft, draft.open("w", **settings) as file:  # type: ignore[call-overload]
            yield file


def _images_in(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*") if path.suffix.lower() in IMAGE_SUFFIXES] if folder.is_dir() else []


def _given(targets: Targets) -> Iterator[tuple[str, str | Path]]:
    """Yield each option with each target that is given."""
    for option, value in targets.items():
        for target in [value] if value is None or isinstance(value, str | Path) else value:
            if target:
                yield option, target


def _is_same_place(target: str | Path, other: str | Path) -> bool:
    if is_standard_output(target) or is_standard_output(other):
        return is_standard_output(target) and is_standard_output(other)
    return os.path.realpath(target) == os.path.realpath(other)


def _paths(inputs: Iterable[Target]) -> Iterator[Path]:
    """Yield the inputs that are given; `~` is the home folder, as where weights and data sets are opened."""
    for path in inputs:
        if path:
            yield Path(os.path.expanduser(path))  # noqa: PTH111  # a home that is unknown is no error here


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what identifies a file or folder under all its names; `None` if it does not exist."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _is_result(option: str, path: Path) -> bool:
    """Return whether a file is empty or was written by the option."""
    try:
        with path.open("rb") as file:
            content = file.read(END_BYTES)
            if content:
                file.seek(max(path.stat().st_size - END_BYTES, len(content)))
                content += file.read(END_BYTES)
    except OSError:
        return False
    return not content or (option in RESULTS and RESULTS[option].match(content) is not None)


def _obstacle(target: Path, *, is_folder: bool) -> str:
    """Return why a file or folder cannot be written; an empty text if it can."""
    existing = target
    try:
        if is_folder and any(path.is_symlink() and not path.exists() for path in (target, *target.parents)):
            return "it is a link to nothing" if target.is_symlink() else "a folder of it is a link to nothing"
        if target.is_symlink():
            target = Path(os.path.realpath(target))  # where a file is written
        existing = _nearest_existing(target)
        needs_folder = is_folder or existing != target
        if existing.is_dir() and not needs_folder:
            return "it is a folder, a file is needed"
        if not existing.is_dir() and needs_folder:
            return f"{'it' if existing == target else existing} is a file, a folder is needed"
        if hasattr(os, "pathconf"):  # folders that do not exist yet refuse no name
            longest = max(len(os.fsencode(part)) for part in target.parts)
            if longest > os.pathconf(existing, "PC_NAME_MAX"):
                return os.strerror(errno.ENAMETOOLONG)
        _probe(existing)
    except PermissionError:
        return f"no permission to write {existing}"
    except (OSError, ValueError) as error:  # ValueError: a name with NUL
        return str(getattr(error, "strerror", None) or error)
    return ""


def _probe(existing: Path) -> None:
    """Raise `OSError` unless a file can be written, or one can be created in a folder.

    Permissions do not tell: root has all of them, and yet /proc and read-only disks take no file.
    """
    status = existing.stat()
    if stat.S_ISDIR(status.st_mode):
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(PROBE)
    elif stat.S_ISREG(status.st_mode):
        with existing.open("ab"):
            pass
        _probe(existing.resolve().parent)  # it is replaced by a new file
    elif _identity(existing) == _identity(Path("/dev/full")):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    elif stat.S_ISBLK(status.st_mode) or stat.S_ISSOCK(status.st_mode):
        raise OSError(errno.EINVAL, "it is neither a file nor a pipe")
    elif not os.access(existing, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(existing))


def _nearest_existing(target: Path) -> Path:
    """Return the first of a path and its parents that exists."""
    for path in chain((target,), target.parents):
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        return path
    return Path()
