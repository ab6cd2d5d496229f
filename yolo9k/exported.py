"""`ExportInfo`: what an exported file needs to be used, stored in it as JSON.

An ONNX file has it in its metadata under the key `yolo9k`; OpenVINO's files have it beside them in NAME.json. This
module needs no torch.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from yolo9k import __version__
from yolo9k.config import ClassifierConfig, Config, RunConfig
from yolo9k.errors import DataError, WeightsError, quote
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.supervision import Supervision
from yolo9k.wordtree.tree import describe

KEY, VERSION = "yolo9k", 1  # of the metadata
SUFFIXES = (".onnx", ".xml")
THRESHOLDS = ("conf", "iou", "max_detections", "hier_thresh")  # inputs of the form detections, in order

Form = Literal["raw", "detections", "probabilities"]
FORMS: dict[str, tuple[Form, ...]] = {"detect": ("detections", "raw"), "classify": ("probabilities", "raw")}


@dataclass(frozen=True)
class ExportInfo:
    """The facts of an exported file.

    `form`: what it computes; `config`: the resolved config, whose `data.size` is the input size; `anchors`: widths and
    heights in cells of `stride` pixels; `batch`: the fixed batch size, `None`: any; `precision`: float32 or int8,
    `quantisation`: how it became int8; `from_darknet`: whether the weights came from a Darknet file; `versions`: of
    the programs that wrote it.
    """

    form: Form
    config: RunConfig
    labels: WordTree
    stride: int
    anchors: tuple[tuple[float, float], ...] = ()
    batch: int | None = None
    precision: Literal["float32", "int8"] = "float32"
    from_darknet: bool = False
    supervision: Supervision | None = None
    quantisation: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """Return what the network does: detect or classify."""
        return "classify" if isinstance(self.config, ClassifierConfig) else "detect"

    @property
    def size_wh(self) -> tuple[int, int]:
        """Return width and height of the input."""
        return self.config.data.size

    def to_dict(self) -> dict[str, Any]:
        """Return the facts for JSON; those that readers of other languages need stand first."""
        data, w_h = self.config.data, list(self.size_wh)
        return {
            "version": VERSION,
            "task": self.task,
            "form": self.form,
            "input": {
                "name": "image", "layout": "NCHW", "size_wh": w_h, "channels": data.channels, "batch": self.batch,
                "colours": "RGB" if data.channels == 3 else "grey", "range": [0, 1], "resize": data.resize,
                "resize_mode": getattr(data, "resize_mode", "center_crop"),
            },
            "anchors": [list(each) for each in self.anchors],
            "stride": self.stride,
            "precision": self.precision,
            "quantisation": dict(self.quantisation),
            "from_darknet": self.from_darknet,
            "labels": self.labels.to_dict(),
            "supervision": None if self.supervision is None else self.supervision.to_dict(),
            "versions": {"yolo9k": __version__, **self.versions},
            "config": self.config.model_dump(mode="json"),
        }  # fmt: skip

    def summary(self, path: Path) -> dict[str, Any]:
        """Return the facts for people, by title."""
        w, h = self.size_wh
        return {
            "file": str(path),
            "bytes": sum(each.stat().st_size for each in _parts(path)),
            "task": self.task,
            "form": self.form,
            "model": self.config.model.name,
            "labels": f"{len(self.labels)}: {describe(self.labels.names)}",
            "size": f"{w}x{h}",
            "batch": self.batch or "any",
            "precision": self.precision,
            **({"anchors in cells": "; ".join(f"{w:g},{h:g}" for w, h in self.anchors)} if self.anchors else {}),
            "exported by": ", ".join(f"{name} {version}" for name, version in self.versions.items()),
        }

    def to_json(self) -> str:
        """Return the facts as a JSON text."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, location: object) -> "ExportInfo":
        """Read the facts of a file, which may come from strangers. Raises `WeightsError`."""
        try:
            stored = json.loads(text)
            version = stored["version"]
        except (ValueError, RecursionError, TypeError, KeyError) as error:
            raise WeightsError(f"{location}: its description is damaged: not the JSON of an exported model") from error
        if version != VERSION:
            raise WeightsError(
                f"{location}: exported by another version of yolo9k (format {quote(version)}, this one reads "
                f"{VERSION}); export it again"
            )
        try:
            return cls._from_dict(stored)
        except (DataError, LookupError, TypeError, ValueError, AttributeError) as error:
            reason = str(error).partition("\n")[0] if isinstance(error, DataError | ValueError) else "a part is missing"
            raise WeightsError(f"{location}: its description is damaged: {reason}") from error

    @classmethod
    def _from_dict(cls, stored: Mapping[str, Any]) -> "ExportInfo":
        kind = ClassifierConfig if stored["task"] == "classify" else Config
        config, labels, batch = kind.model_validate(stored["config"]), WordTree.from_dict(stored["labels"]), None
        if stored["input"]["batch"] is not None:
            batch = int(stored["input"]["batch"])
        stride = int(stored["stride"])
        if stride < 1:
            raise ValueError(f"stride {stride} is less than 1")
        if stored["form"] not in FORMS[stored["task"]] or stored["precision"] not in ("float32", "int8"):
            raise ValueError(f"unknown form {quote(stored['form'])} or precision {quote(stored['precision'])}")
        anchors = tuple((float(w), float(h)) for w, h in stored["anchors"])
        if not all(0 < side < math.inf for sides in anchors for side in sides):
            raise ValueError("anchors must be above 0")
        supervision = None if stored["supervision"] is None else Supervision.from_dict(stored["supervision"])
        if supervision is not None:
            supervision.kinds(labels)
        return cls(
            stored["form"], config, labels, stride, anchors, batch, stored["precision"],
            bool(stored["from_darknet"]), supervision, dict(stored["quantisation"]), dict(stored["versions"]),
        )  # fmt: skip


def is_exported(path: object) -> bool:
    """Return whether a path is that of an exported file, by its suffix."""
    return str(path).lower().endswith(SUFFIXES)


def _parts(path: Path) -> list[Path]:
    """Return the files that hold a model: OpenVINO has its weights in a second one."""
    weights = path.with_suffix(".bin")
    return [path, weights] if path.suffix.lower() == ".xml" and weights.is_file() else [path]


def output_names(info: ExportInfo) -> list[str]:
    """Return the names of the outputs of a file, in order."""
    if info.form == "raw":
        return ["grid" if info.task == "detect" else "logits"]
    if info.form == "probabilities":
        return ["probabilities"]
    return ["boxes", "scores", "labels", "image_index", *([] if info.labels.is_flat else ["path"])]


def check_outputs(path: Path, info: ExportInfo, names: list[str]) -> None:
    """Raise `WeightsError` unless the outputs of a file are those of its description."""
    if names != (expected := output_names(info)):
        raise WeightsError(
            f"{path}: its description does not fit it: outputs {', '.join(map(quote, names))} instead of "
            f"{', '.join(expected)}"
        )
