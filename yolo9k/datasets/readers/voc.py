"""Pascal VOC: one XML file an image (devkit, section "Annotation file format").

A data set is one or several folders with `Annotations`, `JPEGImages` and lists in `ImageSets/Main`. Folders
as annotation tools leave them work too: images in `images` or beside the XML files, and no lists.
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
    Entry,
    Findings,
    RawBox,
    Read,
    Record,
    Selection,
    image_size_wh,
    number,
    numbers_by_name,
    read_text,
    unreadable,
)
from yolo9k.errors import DataError
from yolo9k.images import is_image_file
from yolo9k.progress import Track, silent

ALL = "all"  # the split of every annotation there is
ANNOTATION_FOLDERS = ("Annotations", "annotations", "labels", "xmls", "xml")
IMAGE_FOLDERS = ("JPEGImages", "images", "Images")
CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class VocFolder:
    """One folder in VOC's layout: annotations by stem, images by stem and by file name."""

    root: Path
    annotations: Mapping[str, Path]
    images: Mapping[str, Path]

    @classmethod
    def open(cls, root: Path) -> "VocFolder":
        """Look at a folder. Raises `DataError` where it is missing or holds no annotation."""
        if not root.is_dir():
            raise DataError(f"{root}: no such folder")
        annotations = find_annotations(root)
        if not annotations:
            raise DataError(f"{root}: holds no annotation (*.xml), here or in {', '.join(ANNOTATION_FOLDERS)}")
        place = next(iter(annotations.values())).parent
        images: dict[str, Path] = {}
        for folder in (root, place, *(root / name for name in reversed(IMAGE_FOLDERS))):
            found = [path for path in folder.iterdir() if is_image_file(path)] if folder.is_dir() else []
            images |= {path.stem: path for path in found} | {path.name: path for path in found}
        return cls(root, annotations, images)

    def lists(self) -> list[str]:
        """The names of its splits."""
        return sorted(path.stem for path in (self.root / "ImageSets" / "Main").glob("*.txt"))

    def split(self, name: str) -> list[str]:
        """Stems of a split, in its order. Raises `DataError` where there is no list of that name."""
        if name == ALL:
            return list(self.annotations)
        path = self.root / "ImageSets" / "Main" / f"{name}.txt"
        if not path.is_file():
            known = ", ".join([*self.lists(), ALL])
            raise DataError(f"{path}: no such split; there are {known}")
        return [stem for line in read_text(path).splitlines() if (stem := self._listed(line.strip()))]

    def _listed(self, line: str) -> str:
        """The stem of a line; lists of one class add 1, 0 (difficult) or -1 (not in the image)."""
        if line in self.annotations:
            return line
        stem, _, flag = line.rpartition(" ")
        if flag == "-1":
            return ""
        return stem.strip() if flag in ("0", "1") and stem else line


def find_annotations(root: Path) -> dict[str, Path]:
    """The XML files of a folder in VOC's layout, by stem."""
    for place in (*(root / name for name in ANNOTATION_FOLDERS), root):
        found = {path.stem: path for path in sorted(place.glob("*.xml"))}
        if found:
            return found
    return {}


def read_voc(selection: Selection, findings: Findings, track: Track = silent) -> Read:
    """The images of the splits (`SPLIT` or `FOLDER/SPLIT`), one after the other.

    Labels that the config does not name are the sorted names found in all splits. Raises `DataError` for
    missing folders and lists, and for bad files where `findings` says so.
    """
    labels = selection.labels or _names(selection, track)
    numbers = numbers_by_name(labels)
    records = []
    for folder, stem in track(_stems(selection, selection.entries), "Reading labels"):
        with findings.file():
            records.append(_read_record(folder, stem, numbers, findings))
    return Read(records, labels)


def _names(selection: Selection, track: Track) -> tuple[str, ...]:
    """The sorted names of all objects; files that cannot be read are left to the reading itself."""
    names: set[str] = set()
    skipping = Findings("skip")
    everything = replace(selection, keep=lambda name: True)
    for folder, stem in track(_stems(everything, everything.all_entries), "Finding labels"):
        with skipping.file():
            path = _annotation(folder, stem)
            names.update(_name(item, f"{path}: object") for item in _parse(path).iterfind("object"))
    return tuple(sorted(names))


def _stems(selection: Selection, entries: Sequence[Entry]) -> list[tuple[VocFolder, str]]:
    folders: dict[str, VocFolder] = {}
    chosen = []
    for entry in entries:
        if not isinstance(entry, str):
            raise DataError(f"{selection.root}: a split of kind voc is text (SPLIT or FOLDER/SPLIT), not {entry}")
        name, _, split = entry.rpartition("/")
        if name not in folders:
            folders[name] = VocFolder.open(selection.root / name)
        stems = folders[name].split(split)
        chosen += [(folders[name], s) for s in stems if selection.keep(f"{name}/{s}" if name else s)]
    return chosen


def _annotation(folder: VocFolder, stem: str) -> Path:
    if stem not in folder.annotations:
        raise BadFile("missing annotation", folder.root, f"{stem!r} is listed in a split and has no {stem}.xml")
    return folder.annotations[stem]


def _parse(path: Path) -> Element:
    try:
        root = defusedxml.ElementTree.parse(path).getroot()
    except ParseError as error:
        raise unreadable(f"{path}:{error.position[0]}", f"not XML: {error}") from error
    except DefusedXmlException as error:
        raise unreadable(path, "declares entities, which are not read") from error
    except (OSError, ValueError, LookupError) as error:
        raise unreadable(path, f"cannot be read: {error}") from error
    if root is None or root.tag != "annotation":
        raise unreadable(path, "not a VOC annotation: its outermost element is not <annotation>")
    return root


def _read_record(folder: VocFolder, stem: str, numbers: Mapping[str, int], findings: Findings) -> Record:
    path = _annotation(folder, stem)
    root = _parse(path)
    boxes = [_read_object(item, f"{path}: object {i}", numbers) for i, item in enumerate(root.iterfind("object"), 1)]
    image = _image(folder, stem, path, root)
    size_wh = _size_wh(root, path) or image_size_wh(image)
    return Record(image, size_wh, findings.check(boxes, size_wh), stem)


def _image(folder: VocFolder, stem: str, path: Path, root: Element) -> Path:
    named = (root.findtext("filename") or "").strip()
    found = folder.images.get(stem) or folder.images.get(named)
    if found is None:
        wanted = f"{named!r} (its filename) or {stem!r}" if named and Path(named).stem != stem else repr(named or stem)
        where = f"{', '.join(IMAGE_FOLDERS)} of {folder.root}, in that folder itself or beside this file"
        raise BadFile("missing image", path, f"no image {wanted} in {where}")
    return found


def _size_wh(root: Element, path: Path) -> tuple[int, int] | None:
    """The size as annotated; some tools leave it out or write 0."""
    texts = [(side, (root.findtext(f"size/{side}") or "0").strip()) for side in ("width", "height")]
    width, height = (number(text, str(path), side) for side, text in texts)
    annotated = 1 <= width < math.inf and 1 <= height < math.inf
    return (int(width), int(height)) if annotated else None


def _read_object(item: Element, place: str, numbers: Mapping[str, int]) -> RawBox:
    name = _name(item, place)
    box = item.find("bndbox")
    if box is None:
        raise unreadable(place, "has no bndbox")
    # VOC counts pixels from 1; Darknet's voc_label.py takes 1 off all four corners, and so do we
    x1, y1, x2, y2 = (number((box.findtext(c) or "").strip(), place, c) - 1 for c in CORNERS)
    difficult = (item.findtext("difficult") or "0").strip()
    if difficult not in ("0", "1"):
        raise unreadable(place, f"difficult is {difficult!r}, 0 or 1 is needed")
    return RawBox(place, (x1, y1, x2, y2), name, numbers.get(name), difficult == "1")


def _name(item: Element, place: str) -> str:
    name = (item.findtext("name") or "").strip()
    if not name:
        raise unreadable(place, "has no name")
    return name
