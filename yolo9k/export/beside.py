"""Write what stands beside an exported file: a README and a program without PyTorch that runs it."""

import json
import shlex
from mmap import ACCESS_READ, mmap
from pathlib import Path

from yolo9k import __version__
from yolo9k.exported import ExportInfo
from yolo9k.io import is_file, read_text, reading, write_text
from yolo9k.wordtree.tree import describe

MARKS = {"README.md": b", exported by yolo9k ", "detect.py": b"Run the exported model beside this file"}
EXAMPLE = Path(__file__).with_name("detect_example.py")
RUNTIMES = {".onnx": "onnxruntime", ".xml": "openvino"}
FITTED = {  # by resize mode and rule
    ("letterbox", "area"): "letterboxed on grey (128), areas averaged",
    ("letterbox", "darknet"): "letterboxed on grey (127.5), bilinear as in Darknet",
    ("stretch", "area"): "stretched, areas averaged",
    ("stretch", "darknet"): "stretched, bilinear",
    ("center_crop", "area"): "scaled and cropped around its centre",
    ("center_crop", "darknet"): "its centred square, bilinear as in Darknet",
}
OUTPUTS = {
    "detections": """\
- `boxes` (R, 4): left, top, right, bottom in pixels of the input; `scores` (R,), best first; `labels` (R,): indices of
  the list of labels; `image_index` (R,): which image of the batch{path}.
- More inputs, scalars: `conf` (default 0.25, float32), `iou` (0.45, float32), `max_detections` (300, int64){hier}.""",
    "raw": "- `{name}`: {shape}.",
    "probabilities": "- `probabilities` (B, {labels}): of each label{tree}.",
}


def write_beside(path: Path, info: ExportInfo) -> None:
    """Write README.md and detect.py into the folder of an exported file. Raises `MachineError`."""
    write_text(path.with_name("README.md"), readme(path, info))
    write_text(path.with_name("detect.py"), example(path))


def example(path: Path) -> str:
    """Return the program that runs an exported file."""
    return read_text(EXAMPLE).replace('MODEL = "model.onnx"', f"MODEL = {json.dumps(path.name)}")


def is_own(path: Path) -> bool:
    """Return whether a file is one that an export has written: a model with a description, a README or detect.py."""
    if not is_file(path):
        return False
    if path.suffix in (".onnx", ".xml", ".bin", ".json"):
        described = path.with_suffix(".json") if path.suffix != ".onnx" else path
        return is_file(described) and _contains(described, b'"from_darknet"')
    return _contains(path, MARKS[path.name])


def _contains(path: Path, text: bytes) -> bool:
    with reading(path), path.open("rb") as file:
        if not path.stat().st_size:  # which cannot be mapped
            return False
        with mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            return content.find(text) >= 0


def readme(path: Path, info: ExportInfo) -> str:
    """Return the README of an exported file."""
    (w, h), data = info.size_wh, info.config.data
    kind = "detector" if info.task == "detect" else "classifier"
    how = FITTED[getattr(data, "resize_mode", "center_crop"), data.resize]
    batch, colours = info.batch or "B", "RGB" if data.channels == 3 else "grey"
    place = (
        f"in `{path.with_suffix('.json').name}`" if path.suffix == ".xml" else "in the metadata under the key `yolo9k`"
    )
    return f"""# {path.name}

A {kind} of {len(info.labels):,} labels ({describe(info.labels.names)}), exported by yolo9k {__version__},
{info.precision}.

- Input `image`: float32 ({batch}, {data.channels}, {h}, {w}), {colours} in [0, 1]; the image is {how}.
{_outputs(info)}
- Label names, tree, anchors and preprocessing are stored as JSON {place}.

Run it without PyTorch:

    pip install numpy pillow {RUNTIMES[path.suffix]}
    python detect.py image.jpg

or with yolo9k:

    yolo9k {"detect" if info.task == "detect" else "classify predict"} image.jpg --weights {shlex.quote(path.name)}
"""


def _outputs(info: ExportInfo) -> str:
    (w, h), labels, in_tree = info.size_wh, len(info.labels), not info.labels.is_flat
    if info.form == "detections":
        path = "; `path`: probabilities along the path in the label tree" if in_tree else ""
        hier = ", `hier_thresh` (0.5, float32) of the descent" if in_tree else ""
        return OUTPUTS["detections"].format(path=path, hier=hier)
    if info.form == "probabilities":
        tree = ", the product along its path in the label tree" if in_tree else ""
        return OUTPUTS["probabilities"].format(labels=labels, tree=tree)
    if info.task == "classify":
        return OUTPUTS["raw"].format(name="logits", shape=f"(B, {labels}), before the softmax")
    anchors, rows, columns = len(info.anchors), h // info.stride, w // info.stride
    shape = (
        f"(B, {anchors} * (5 + {labels}), {rows}, {columns}): per anchor x, y, w, h, objectness and the class logits"
    )
    return OUTPUTS["raw"].format(name="grid", shape=shape)
