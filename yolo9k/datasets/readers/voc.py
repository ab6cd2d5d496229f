"""Read Pascal VOC annotations: one XML file per image (VOC devkit, section "Annotation file format").

A data set is one or several folders with `Annotations`, `JPEGImages` and image lists in `ImageSets/Main`, all with
subfolders if the tool makes them. Layouts of annotation tools are read too: images in other folders or next to the XML
files, without lists.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml import DefusedXmlException

from yolo9k.datasets.readers.label_files import refuse_other_labels
from yolo9k.datasets.readers.paths import FileFinder, path_parts
from yolo9k.datasets.readers.records import (
    BadFile,
    BoxReadResult,
    Corners,
    Entry,
    IssueCollector,
    ParsedBox,
    Record,
    SplitRequest,
    index_by_name,
    parse_flag,
    parse_number,
    read_image_size_wh,
    read_lines,
    reading_data,
    unreadable_annotation,
)
from yolo9k.errors import DataError
from yolo9k.image_formats import is_image_file
from yolo9k.io import check_regular, is_file, is_folder, is_hidden, subfolders, visible_files
from yolo9k.progress import Track, silent

ALL = "all"  # the split of all annotation files
ANNOTATION_FOLDERS = ("annotations", "annotation", "labels", "label", "xmls", "xml")  # in any case
IMAGE_FOLDERS = ("jpegimages", "images", "image", "imgs", "img", "data")
CORNERS = ("xmin", "ymin", "xmax", "ymax")
MAX_XML_BYTES = 1 << 26  # 64 MiB: outlines of thousands of objects
MAX_NAMED = 5  # images that a warning names


@dataclass(frozen=True)
class VocFolder:
    """A folder in VOC's layout: annotation files by name, and the images that may have one, by name.

    A name is a path below the folder of the annotations or images, without suffix: `a` or `sub/a`. Several images may
    have one name.
    """

    root: Path
    annotations: Mapping[str, Path]
    images: Mapping[str, Sequence[Path]]

    @classmethod
    def open(cls, root: Path) -> "VocFolder":
        """List the files of a folder. Raises `DataError` if it is missing or has no annotations."""
        if not is_folder(root):
            raise DataError(f"{root}: no such folder")
        with reading_data(root):
            annotations = find_annotations(root)
            if not annotations:
                raise DataError(f"{root}: no annotations (*.xml) in this folder or in {', '.join(ANNOTATION_FOLDERS)}")
            return cls(root, annotations, _find_images(root, next(iter(annotations.values())).parent))

    @property
    def has_image_folder(self) -> bool:
        """Return whether the images have a folder of their own: those of other VOC folders may have the same names."""
        places = _subfolders(self.root, IMAGE_FOLDERS)
        return any(path.is_relative_to(place) for same in self.images.values() for path in same for place in places)

    def lists(self) -> list[str]:
        """Return the names of the image lists."""
        folder = self.root / "ImageSets" / "Main"
        paths = folder.glob("*.txt") if is_folder(folder) else ()
        return sorted(path.stem for path in paths if not is_hidden(path.name))

    def split(self, name: str) -> list[str]:
        """Return the names of a split in the order of its list. Raises `DataError` if there is no such list."""
        if name == ALL:
            return list(self.annotations)
        path = self.root / "ImageSets" / "Main" / f"{name}.txt"
        if not is_file(path):
            raise DataError(f"{path}: no such split; allowed are {', '.join([*self.lists(), ALL])}")
        return [key for line in read_lines(path) if (key := self._parse_line(line))]

    def is_of_class(self, name: str) -> bool:
        """Return whether a list is of one class: its lines end in 1, 0 or -1."""
        lines = read_lines(self.root / "ImageSets" / "Main" / f"{name}.txt")
        return bool(lines) and all(line.rpartition(" ")[2] in ("1", "0", "-1") for line in lines)

    def _parse_line(self, line: str) -> str:
        """Return the name in a line; lists of one class append 1, 0 (difficult) or -1 (absent: "" is returned)."""
        if line in self.annotations:
            return line
        stem, _, flag = line.rpartition(" ")
        if flag == "-1":
            return ""
        name = stem.strip() if flag in ("0", "1") and stem else line
        if name in self.annotations:
            return name
        parts = path_parts(name)  # a path of another machine, with the suffix of the image
        tails = ["/".join(parts[start:]) for start in range(len(parts))]
        known = (tail for full in tails for tail in (full, full.rpartition(".")[0]) if tail in self.annotations)
        return next(known, name)


def find_annotations(root: Path) -> dict[str, Path]:
    """Return the XML files of a folder in VOC's layout by name, from the first annotation folder that has any.

    Raises `OSError` for an unreadable folder.
    """
    for folder in _subfolders(root, ANNOTATION_FOLDERS):
        files = {_name_below(path, folder): path for path in visible_files(folder) if path.suffix.lower() == ".xml"}
        if files:
            return files
    own = sorted(path for path in root.iterdir() if path.suffix.lower() == ".xml" and not is_hidden(path.name))
    return {path.stem: path for path in own}


def _subfolders(root: Path, names: Sequence[str]) -> list[Path]:
    """Return the subfolders with one of the names, in any case, in the order of the names."""
    folders = [path for path in subfolders(root) if path.name.casefold() in names]
    return sorted(folders, key=lambda path: (names.index(path.name.casefold()), path.name))


def _name_below(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _find_images(root: Path, annotation_folder: Path) -> dict[str, list[Path]]:
    """Return the images by name: of the image folders, else of the folder itself, else of that of the annotations."""
    images: dict[str, list[Path]] = {}
    for folder in _subfolders(root, IMAGE_FOLDERS):
        _add_images(images, folder, visible_files(folder))
    for folder in dict.fromkeys((root, annotation_folder)):
        _add_images(images, folder, iter(sorted(path for path in folder.iterdir() if not is_hidden(path.name))))
    return images


def _add_images(images: dict[str, list[Path]], folder: Path, paths: Iterator[Path]) -> None:
    """Add the images of a folder whose names no earlier folder has."""
    found: dict[str, list[Path]] = {}
    for path in filter(is_image_file, paths):
        found.setdefault(_name_below(path, folder), []).append(path)
    for name, same in found.items():
        images.setdefault(name, same)


def read_voc(request: SplitRequest, issues: IssueCollector, track: Track = silent) -> BoxReadResult:
    """Read the images of the entries (`SPLIT` or `FOLDER/SPLIT`), in order.

    Without class names in the request, they are the sorted names in all splits. Raises `DataError` for missing folders
    and lists, and for unusable files unless `issues` skips them.
    """
    labels = request.labels or _find_class_names(request, track)
    indices, anywhere = index_by_name(labels), FileFinder(request.root)
    records, folders, finders = [], dict[Path, VocFolder](), dict[Path, FileFinder]()
    for folder, name in track(_list_names(request, request.entries), "Reading labels"):
        if folder.root not in folders:
            folders[folder.root] = folder
            finders[folder.root] = FileFinder(folder.root) if folder.has_image_folder else anywhere
        with issues.reading_file():
            records.append(_read_record(folder, name, indices, finders[folder.root], issues))
    for finder in dict.fromkeys(finders.values()):
        finder.report(finder.root, issues)
    if boxes := issues.exchanged:
        message = f"{len(boxes):,} boxes have their min and max exchanged and are read in order; first: {boxes[0]}"
        issues.warn("corners exchanged", request.root, message)
    _warn_unannotated(request, folders, {record.path for record in records}, issues)
    return BoxReadResult(records, labels, annotated_sizes=True)


def _warn_unannotated(
    request: SplitRequest, folders: Mapping[Path, VocFolder], used: set[Path], issues: IssueCollector
) -> None:
    """Warn about images without an annotation in folders used as a whole: no image list excludes them on purpose."""
    whole = {request.root / entry.rpartition("/")[0] for entry in map(str, request.entries) if _list_of(entry) == ALL}
    for folder in (folder for root, folder in folders.items() if root in whole):
        unnamed = [same for name, same in folder.images.items() if name not in folder.annotations]
        names = sorted(path.name for same in unnamed for path in same if path not in used)
        if len(names) > len(folder.annotations):
            images = [path for same in unnamed for path in same]
            total = len(folder.annotations) + len(images)
            refuse_other_labels(images, request.root, folder.root, f"of {total:,} images have no XML file")
        if names:
            more = ", …" if len(names) > MAX_NAMED else ""
            message = f"{len(names):,} images ({', '.join(names[:MAX_NAMED])}{more}) without an annotation are skipped"
            issues.warn("not annotated", folder.root, message)


def _list_of(entry: str) -> str:
    return entry.rpartition("/")[2]


def _find_class_names(request: SplitRequest, track: Track) -> tuple[str, ...]:
    """Return the sorted names of all objects; unreadable files are skipped here and reported when they are read."""
    names: set[str] = set()
    skipping = IssueCollector("skip")
    every_image = replace(request, keep=lambda name: True)
    for folder, name in track(_list_names(every_image, request.all_entries), "Finding labels"):
        with skipping.reading_file():
            path = _annotation_file(folder, name)
            names.update(text for item in _parse_xml(path).iterfind("object") if (text := _text(item, "name")))
    return tuple(sorted(names))


def _list_names(request: SplitRequest, entries: Sequence[Entry]) -> list[tuple[VocFolder, str]]:
    folders: dict[str, VocFolder] = {}
    listed = []
    for entry in entries:
        if not isinstance(entry, str):
            raise DataError(f"{request.root}: a split of kind voc must be text (SPLIT or FOLDER/SPLIT), not {entry}")
        folder, _, split = entry.rpartition("/")
        if folder not in folders:
            folders[folder] = VocFolder.open(request.root / folder)
        names = folders[folder].split(split)
        listed += [(folders[folder], name) for name in names if request.keep(f"{folder}/{name}" if folder else name)]
    return listed


def _annotation_file(folder: VocFolder, name: str) -> Path:
    if name not in folder.annotations:
        raise BadFile(
            "missing annotation", folder.root, f"a split lists {name[:200]!r}, but there is no such .xml file"
        )
    return folder.annotations[name]


def _parse_xml(path: Path) -> Element:
    """Parse an annotation; its own header says the encoding."""
    check_regular(path, unreadable_annotation, MAX_XML_BYTES)
    with reading_data(path):
        content = path.read_bytes()
    try:
        root = defusedxml.ElementTree.fromstring(content)
    except ParseError as error:
        raise unreadable_annotation(f"{path}:{error.position[0]}", f"not XML: {error}") from error
    except DefusedXmlException as error:
        raise unreadable_annotation(path, "declares XML entities, which are refused") from error
    except (ValueError, LookupError) as error:  # an unknown encoding
        raise unreadable_annotation(path, f"cannot be read: {error}") from error
    if root is None or root.tag != "annotation":
        raise unreadable_annotation(path, "not a VOC annotation: the root element must be <annotation>")
    return root


def _read_record(
    folder: VocFolder, name: str, indices: Mapping[str, int], finder: FileFinder, issues: IssueCollector
) -> Record:
    path = _annotation_file(folder, name)
    root = _parse_xml(path)
    image = _find_image(folder, name, path, root, finder)
    size_wh = _annotated_size_wh(root, path) or read_image_size_wh(image)
    objects = list(enumerate(root.iterfind("object"), 1))
    boxes = issues.parse_each(lambda item: _read_object(item[1], f"{path}: object {item[0]}", indices), objects)
    return Record(image, size_wh, issues.check_boxes(boxes, size_wh), name)


def _find_image(folder: VocFolder, name: str, path: Path, root: Element, finder: FileFinder) -> Path:
    """Return the image of an annotation.

    It is the one with its name in the folder, else the one of `<filename>`, there or elsewhere, else one with its name
    elsewhere. A folder without images is one of annotations alone: its images have their names, as those beside them.
    """
    file_name = (path_parts(_text(root, "filename")) or [""])[-1]
    same = folder.images.get(name)
    if same:
        finder.total += 1
        return _choose(same, file_name, path)
    beside = path.parent.relative_to(finder.root) if path.parent.is_relative_to(finder.root) else Path()
    own_name, other_name = (beside / path.stem).as_posix(), (beside / file_name).as_posix()
    found = [] if folder.images else finder.images_named(own_name)
    if not found and file_name:
        named = _called(folder.images.get(str(Path(name).with_name(Path(file_name).stem or "-")), ()), file_name)
        if named:
            finder.total += 1
            return named[0]
        try:
            return finder.find(other_name, (), path)
        except BadFile as error:
            if error.issue.kind != "missing image":
                raise
    found = found or finder.images_named(own_name)
    if found:
        image = _choose(found, file_name, path)
        if folder.images:
            finder.add_moved(own_name, image)  # its own folder lacks it
        else:
            finder.total += 1
        return image
    if not file_name:
        raise BadFile("missing image", path, f"no image {name!r} in {folder.root}, and no <filename>")
    other = f" (its filename) or {name!r}" if Path(file_name).stem != name else ""
    raise BadFile("missing image", path, f"no image {file_name!r}{other} below {finder.root}")


def _choose(same: Sequence[Path], file_name: str, path: Path) -> Path:
    """Return the only image, or of several the one that `<filename>` names. Raises `BadFile` if it names none."""
    named = same if len(same) == 1 else _called(same, file_name)
    if not named:
        names = " or ".join(image.name for image in same[:2])
        raise BadFile("ambiguous path", path, f"its image could be {names}; <filename> names {file_name or 'none'!r}")
    return named[0]


def _called(images: Sequence[Path], file_name: str) -> list[Path]:
    return [image for image in images if image.name.casefold() == file_name.casefold()]


def _annotated_size_wh(root: Element, path: Path) -> tuple[int, int] | None:
    """Return the annotated image size; `None` if it is missing or 0, as some tools write it."""
    texts = [(side, _text(root, f"size/{side}") or "0") for side in ("width", "height")]
    width, height = (parse_number(text, str(path), side) for side, text in texts)
    is_valid = 1 <= width < math.inf and 1 <= height < math.inf
    return (int(width), int(height)) if is_valid else None


def _read_object(item: Element, location: str, indices: Mapping[str, int]) -> ParsedBox:
    name = _text(item, "name")
    if not name:
        raise unreadable_annotation(location, "has no name")
    corners = _corners(item, location)
    in_order = _in_order(corners)
    is_difficult = parse_flag(_text(item, "difficult"), location, "difficult")
    return ParsedBox(location, in_order, name, indices.get(name), is_difficult, in_order != corners)


def _in_order(corners: Corners) -> Corners:
    """Return the corners of a box drawn from another corner; Darknet's tools and torchvision refuse or drop it."""
    x1, y1, x2, y2 = corners
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def _corners(item: Element, location: str) -> Corners:
    """Return the box of an object, or the one around its outline, counted from 0.

    VOC counts pixels from 1; like Darknet's voc_label.py, 1 is subtracted from all four corners.
    """
    box = item.find("bndbox")
    if box is not None:
        x1, y1, x2, y2 = (_coordinate(box, location, corner) for corner in CORNERS)
        return x1, y1, x2, y2
    outline = next((found for tag in ("polygon", "segmentation") if (found := item.find(tag)) is not None), None)
    points = [] if outline is None else [(node.tag[0], node) for node in outline.iter() if not len(node)]
    xs, ys = ([_coordinate(node, location) for tag, node in points if tag == axis] for axis in "xy")
    if not xs or not ys:
        raise unreadable_annotation(location, "has no bndbox, and no polygon")
    return min(xs), min(ys), max(xs), max(ys)


def _coordinate(element: Element, location: str, tag: str = ".") -> float:
    return parse_number(_text(element, tag), location, element.tag if tag == "." else tag) - 1


def _text(element: Element, path: str = ".") -> str:
    return (element.findtext(path) or "").strip()
