"""Read Pascal VOC annotations: one XML file per image (VOC devkit, section "Annotation file format").

A data set is one or several folders with `Annotations`, `JPEGImages` and image lists in `ImageSets/Main`. Layouts of
annotation tools are read too: images in `images` or next to the XML files, without lists.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml import DefusedXmlException

from yolo9k.datasets.readers.records import (
    BadFile,
    BoxReadResult,
    Entry,
    IssueCollector,
    ParsedBox,
    Record,
    SplitRequest,
    index_by_name,
    parse_number,
    read_image_size_wh,
    read_text,
    unreadable_annotation,
)
from yolo9k.errors import DataError
from yolo9k.images import is_image_file
from yolo9k.progress import Track, silent

ALL = "all"  # the split of all annotation files
ANNOTATION_FOLDERS = ("Annotations", "annotations", "labels", "xmls", "xml")
IMAGE_FOLDERS = ("JPEGImages", "images", "Images")
CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class VocFolder:
    """A folder in VOC's layout: annotation files by stem, images by stem and by file name."""

    root: Path
    annotations: Mapping[str, Path]
    images: Mapping[str, Path]

    @classmethod
    def open(cls, root: Path) -> "VocFolder":
        """List the files of a folder. Raises `DataError` if it is missing or has no annotations."""
        if not root.is_dir():
            raise DataError(f"{root}: no such folder")
        annotations = find_annotations(root)
        if not annotations:
            raise DataError(f"{root}: no annotations (*.xml) in this folder or in {', '.join(ANNOTATION_FOLDERS)}")
        annotation_folder = next(iter(annotations.values())).parent
        images: dict[str, Path] = {}
        for folder in (root, annotation_folder, *(root / name for name in reversed(IMAGE_FOLDERS))):
            paths = [path for path in folder.iterdir() if is_image_file(path)] if folder.is_dir() else []
            images |= {path.stem: path for path in paths} | {path.name: path for path in paths}
        return cls(root, annotations, images)

    def lists(self) -> list[str]:
        """Return the names of the image lists."""
        return sorted(path.stem for path in (self.root / "ImageSets" / "Main").glob("*.txt"))

    def split(self, name: str) -> list[str]:
        """Return the stems of a split in the order of its list. Raises `DataError` if there is no such list."""
        if name == ALL:
            return list(self.annotations)
        path = self.root / "ImageSets" / "Main" / f"{name}.txt"
        if not path.is_file():
            raise DataError(f"{path}: no such split; allowed are {', '.join([*self.lists(), ALL])}")
        return [stem for line in read_text(path).splitlines() if (stem := self._parse_line(line.strip()))]

    def _parse_line(self, line: str) -> str:
        """Return the stem in a line; lists of one class append 1, 0 (difficult) or -1 (absent: "" is returned)."""
        if line in self.annotations:
            return line
        stem, _, flag = line.rpartition(" ")
        if flag == "-1":
            return ""
        return stem.strip() if flag in ("0", "1") and stem else line


def find_annotations(root: Path) -> dict[str, Path]:
    """Return the XML files of a folder in VOC's layout by stem, from the first subfolder that has any."""
    for folder in (*(root / name for name in ANNOTATION_FOLDERS), root):
        annotations = {path.stem: path for path in sorted(folder.glob("*.xml"))}
        if annotations:
            return annotations
    return {}


def read_voc(request: SplitRequest, issues: IssueCollector, track: Track = silent) -> BoxReadResult:
    """Read the images of the entries (`SPLIT` or `FOLDER/SPLIT`), in order.

    Without class names in the request, they are the sorted names in all splits. Raises `DataError` for missing folders
    and lists, and for unusable files unless `issues` skips them.
    """
    labels = request.labels or _find_class_names(request, track)
    indices = index_by_name(labels)
    records = []
    for folder, stem in track(_list_stems(request, request.entries), "Reading labels"):
        with issues.reading_file():
            records.append(_read_record(folder, stem, indices, issues))
    return BoxReadResult(records, labels)


def _find_class_names(request: SplitRequest, track: Track) -> tuple[str, ...]:
    """Return the sorted names of all objects; unreadable files are skipped here and reported when they are read."""
    names: set[str] = set()
    skipping = IssueCollector("skip")
    every_image = replace(request, keep=lambda name: True)
    for folder, stem in track(_list_stems(every_image, request.all_entries), "Finding labels"):
        with skipping.reading_file():
            path = _annotation_file(folder, stem)
            names.update(_class_name(item, f"{path}: object") for item in _parse_xml(path).iterfind("object"))
    return tuple(sorted(names))


def _list_stems(request: SplitRequest, entries: Sequence[Entry]) -> list[tuple[VocFolder, str]]:
    folders: dict[str, VocFolder] = {}
    listed = []
    for entry in entries:
        if not isinstance(entry, str):
            raise DataError(f"{request.root}: a split of kind voc must be text (SPLIT or FOLDER/SPLIT), not {entry}")
        name, _, split = entry.rpartition("/")
        if name not in folders:
            folders[name] = VocFolder.open(request.root / name)
        stems = folders[name].split(split)
        listed += [(folders[name], stem) for stem in stems if request.keep(f"{name}/{stem}" if name else stem)]
    return listed


def _annotation_file(folder: VocFolder, stem: str) -> Path:
    if stem not in folder.annotations:
        raise BadFile("missing annotation", folder.root, f"a split lists {stem!r}, but there is no {stem}.xml")
    return folder.annotations[stem]


def _parse_xml(path: Path) -> Element:
    try:
        root = defusedxml.ElementTree.parse(path).getroot()
    except ParseError as error:
        raise unreadable_annotation(f"{path}:{error.position[0]}", f"not XML: {error}") from error
    except DefusedXmlException as error:
        raise unreadable_annotation(path, "declares XML entities, which are refused") from error
    except (OSError, ValueError, LookupError) as error:
        raise unreadable_annotation(path, f"cannot be read: {error}") from error
    if root is None or root.tag != "annotation":
        raise unreadable_annotation(path, "not a VOC annotation: the root element must be <annotation>")
    return root


def _read_record(folder: VocFolder, stem: str, indices: Mapping[str, int], issues: IssueCollector) -> Record:
    path = _annotation_file(folder, stem)
    root = _parse_xml(path)
    boxes = [_read_object(item, f"{path}: object {i}", indices) for i, item in enumerate(root.iterfind("object"), 1)]
    image = _find_image(folder, stem, path, root)
    size_wh = _annotated_size_wh(root, path) or read_image_size_wh(image)
    return Record(image, size_wh, issues.check_boxes(boxes, size_wh), stem)


def _find_image(folder: VocFolder, stem: str, path: Path, root: Element) -> Path:
    file_name = (root.findtext("filename") or "").strip()
    image = folder.images.get(stem) or folder.images.get(file_name)
    if image is None:
        has_other_name = file_name and Path(file_name).stem != stem
        names = f"{file_name!r} (its filename) or {stem!r}" if has_other_name else repr(file_name or stem)
        folders = f"{', '.join(IMAGE_FOLDERS)} of {folder.root}, in that folder itself or next to this file"
        raise BadFile("missing image", path, f"no image {names} in {folders}")
    return image


def _annotated_size_wh(root: Element, path: Path) -> tuple[int, int] | None:
    """Return the annotated image size; `None` if it is missing or 0, as some tools write it."""
    texts = [(side, (root.findtext(f"size/{side}") or "0").strip()) for side in ("width", "height")]
    width, height = (parse_number(text, str(path), side) for side, text in texts)
    is_valid = 1 <= width < math.inf and 1 <= height < math.inf
    return (int(width), int(height)) if is_valid else None


def _read_object(item: Element, location: str, indices: Mapping[str, int]) -> ParsedBox:
    name = _class_name(item, location)
    box = item.find("bndbox")
    if box is None:
        raise unreadable_annotation(location, "has no bndbox")
    # VOC counts pixels from 1; like Darknet's voc_label.py, we subtract 1 from all four corners
    x1, y1, x2, y2 = (parse_number((box.findtext(corner) or "").strip(), location, corner) - 1 for corner in CORNERS)
    difficult = (item.findtext("difficult") or "0").strip()
    if difficult not in ("0", "1"):
        raise unreadable_annotation(location, f"difficult must be 0 or 1, not {difficult!r}")
    return ParsedBox(location, (x1, y1, x2, y2), name, indices.get(name), difficult == "1")


def _class_name(item: Element, location: str) -> str:
    name = (item.findtext("name") or "").strip()
    if not name:
        raise unreadable_annotation(location, "has no name")
    return name
