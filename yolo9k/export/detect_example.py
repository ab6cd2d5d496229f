#!/usr/bin/env python3
"""Run the exported model beside this file on images: an example without PyTorch, to start your own program from.

    python detect.py image.jpg [more.jpg ...] [--conf 0.25]

Needs numpy and Pillow, and onnxruntime for a model in ONNX or openvino for one in OpenVINO's format. Images have 8 bits
per channel; transparency is ignored. Where the model's config says `resize: area`, Pillow's box filter stands for
OpenCV's, which differs by a few levels.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

MODEL = "model.onnx"  # beside this file
GREY = 128  # of the padding
EXACT = 1e-6  # for whole numbers in floating point
MAX_DETECTIONS = 300

Description = dict[str, Any]
Run = Callable[[dict[str, np.ndarray]], list[np.ndarray]]  # from inputs by name to all outputs
Rows = tuple[np.ndarray, np.ndarray, np.ndarray]  # boxes (N, 4), scores (N,), labels (N,)


def open_model(path: Path) -> tuple[Run, Description]:
    """Return a function from inputs by name to a list of outputs, and the description of the model."""
    if path.suffix == ".onnx":
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3
        session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        text = session.get_modelmeta().custom_metadata_map["yolo9k"]
        return lambda inputs: session.run(None, inputs), json.loads(text)
    import openvino

    exact = {"INFERENCE_PRECISION_HINT": "f32"}  # without it, OpenVINO takes bfloat16 where that is faster
    model = openvino.Core().compile_model(path, "CPU", exact)
    text = path.with_suffix(".json").read_text(encoding="utf-8")
    return lambda inputs: list(model(inputs).to_tuple()), json.loads(text)


def resize(image: np.ndarray, size: tuple[int, int], corners: bool) -> np.ndarray:
    """Resize (H, W, 3) values in [0, 1] bilinearly, without averaging: between corners or between half pixels."""

    def along(values: np.ndarray, length: int) -> np.ndarray:
        position = np.arange(length, dtype=np.float32)
        if corners:
            position *= np.float32((len(values) - 1) / max(length - 1, 1))
        else:
            position = np.clip((position + 0.5) * np.float32(len(values) / length) - 0.5, 0, len(values) - 1)
        first = position.astype(int)
        weight = (position - first)[:, None, None]
        return (1 - weight) * values[first] + weight * values[np.minimum(first + 1, len(values) - 1)]

    width, height = size
    return along(along(image.transpose(1, 0, 2), width).transpose(1, 0, 2), height)


def placement(image: Image.Image, description: Description) -> tuple[Image.Image, tuple[int, int]]:
    """Return the part of the image that is used, and its size in the network's input."""
    width, height = description["input"]["size_wh"]
    mode = description["input"]["resize_mode"]
    if mode == "stretch":
        return image, (width, height)
    if mode == "letterbox":
        scale = min(width / image.width, height / image.height)
        return image, (max(1, int(image.width * scale + EXACT)), max(1, int(image.height * scale + EXACT)))
    ratio = 1.0 if description["input"]["resize"] == "darknet" else width / height  # Darknet stretches a square
    part_w = max(1, min(image.width, round(image.height * ratio)))
    part_h = max(1, min(image.height, round(image.width / ratio)))
    left, top = (image.width - part_w) // 2, (image.height - part_h) // 2
    return image.crop((left, top, left + part_w, top + part_h)), (width, height)


def prepare(image: Image.Image, description: Description) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Return the input (1, C, h, w) in [0, 1] for an RGB image, and how to get boxes back to its pixels."""
    (width, height), channels = description["input"]["size_wh"], description["input"]["channels"]
    if channels == 1:
        luma = (np.asarray(image, np.uint16) @ np.array([77, 150, 29], np.uint16)) >> 8
        image = Image.fromarray(luma.astype(np.uint8)).convert("RGB")
    part, size = placement(image, description)
    is_darknet = description["input"]["resize"] == "darknet"
    if is_darknet:
        corners = description["input"]["resize_mode"] != "stretch"
        resized, grey = resize(np.asarray(part, np.float32) / 255, size, corners), 0.5
    else:
        shrinks = size[0] * size[1] < part.width * part.height
        how = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
        resized, grey = np.asarray(part.resize(size, how), np.float32) / 255, GREY / 255
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    canvas = np.full((height, width, 3), grey, np.float32)
    canvas[top : top + size[1], left : left + size[0]] = resized
    if is_darknet:  # it places whole pixels, but takes exactly half of the padding back
        offset = np.array([(width - size[0]) / 2, (height - size[1]) / 2] * 2, np.float32)
    else:
        offset = np.array([left, top] * 2, np.float32)
    factor = np.array([size[0] / part.width, size[1] / part.height] * 2, np.float32)
    return canvas[..., :channels].transpose(2, 0, 1)[None], lambda boxes: (boxes - offset) / factor


def sigmoid(values: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-values))."""
    return 1 / (1 + np.exp(-values))


def decode(grid: np.ndarray, description: Description) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decode a raw map (A * (5 + K), H, W): boxes (N, 4) as corners in pixels, objectness (N,), logits (N, K)."""
    anchors = np.array(description["anchors"], np.float32)
    labels = len(description["labels"]["names"])
    _, rows, columns = grid.shape
    values = grid.reshape(len(anchors), 5 + labels, rows, columns)
    offset = description["config"]["model"]["location"] == "offset"  # centres by anchor sides, not by a sigmoid
    dx, dy = (0.5 + values[:, i] * anchors[:, i, None, None] if offset else sigmoid(values[:, i]) for i in (0, 1))
    x, y = np.arange(columns) + dx, np.arange(rows)[:, None] + dy
    w, h = (np.exp(values[:, 2 + i]) * anchors[:, i, None, None] for i in (0, 1))
    corners = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=-1) * description["stride"]
    logits = values[:, 5:].transpose(0, 2, 3, 1).reshape(-1, labels)
    return corners.reshape(-1, 4), sigmoid(values[:, 4]).ravel(), logits


def softmax(values: np.ndarray) -> np.ndarray:
    """Return the softmax over the last axis."""
    exponentials = np.exp(values - values.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def descend(logits: np.ndarray, parents: list[int], threshold: float) -> tuple[int, float]:
    """Return the node where a descent through the label tree ends, and its probability, for logits (K,)."""
    node, probability = -1, 1.0
    while True:
        children = np.flatnonzero(np.asarray(parents) == node)
        if not len(children):
            return node, probability
        conditional = softmax(logits[children])
        best = int(conditional.argmax())
        is_above = probability * conditional[best] > threshold
        if not is_above and node >= 0:
            return node, probability
        node, probability = int(children[best]), probability * float(conditional[best])
        if not is_above:
            return node, probability


def overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the IoU of a box with each of many."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return shared / (np.prod(box[2:] - box[:2]) + areas - shared)


def related(label: int, labels: np.ndarray, parents: list[int]) -> np.ndarray:
    """Return which labels are the label itself, its ancestors or its descendants."""

    def path(node: int) -> set[int]:
        return {node} | (path(parents[node]) if parents[node] >= 0 else set())

    own = path(label)
    return np.array([other in own or label in path(other) for other in labels], bool)


def suppress(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, parents: list[int], iou: float) -> list[int]:
    """Return the indices that non-maximum suppression keeps, best score first."""
    order, kept = np.argsort(-scores, kind="stable"), []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        same = related(labels[best], labels[order], parents)
        order = order[~(same & (overlap(boxes[best], boxes[order]) > iou))]
    return kept


def detect_raw(grid: np.ndarray, description: Description, options: argparse.Namespace) -> Rows:
    """Return boxes, scores and labels from a raw map (A * (5 + K), H, W)."""
    parents = description["labels"]["parents"]
    boxes, objectness, logits = decode(grid, description)
    found: list[tuple[int, int, float]] = []
    for box in np.flatnonzero(objectness > options.conf):
        if max(parents) >= 0:
            pairs: Any = [descend(logits[box], parents, options.hier_thresh)]
        elif description["config"]["model"]["classes"] == "logistic":
            pairs = enumerate(sigmoid(logits[box]))
        else:
            pairs = enumerate(softmax(logits[box]))
        scored = ((int(box), label, float(objectness[box] * probability)) for label, probability in pairs)
        found += [row for row in scored if row[2] > options.conf]
    boxes = boxes[[row[0] for row in found]]
    labels, scores = np.array([row[1] for row in found], int), np.array([row[2] for row in found])
    kept = suppress(boxes, scores, labels, parents, options.iou)[:MAX_DETECTIONS]
    return boxes[kept], scores[kept], labels[kept]


def detect(run: Run, values: np.ndarray, description: Description, options: argparse.Namespace) -> Rows:
    """Return boxes in pixels of the input, scores and labels of the first image of a batch (B, C, h, w)."""
    if description["form"] == "raw":
        return detect_raw(run({"image": values})[0][0], description, options)
    inputs = {
        "image": values,
        "conf": np.array(options.conf, np.float32),
        "iou": np.array(options.iou, np.float32),
        "max_detections": np.array(MAX_DETECTIONS, np.int64),
    }
    if max(description["labels"]["parents"]) >= 0:
        inputs["hier_thresh"] = np.array(options.hier_thresh, np.float32)
    boxes, scores, labels, image_index, *_ = run(inputs)
    own = image_index == 0
    return boxes[own], scores[own], labels[own]


def label_probabilities(logits: np.ndarray, parents: list[int]) -> np.ndarray:
    """Return P(label): a softmax over each group of siblings, multiplied along the path to the label."""
    group, result = np.asarray(parents), np.ones(len(logits))
    for parent in dict.fromkeys(parents):  # parents come before their children
        own = group == parent
        result[own] = softmax(logits[own]) * (result[parent] if parent >= 0 else 1)
    return result


def classify(run: Run, values: np.ndarray, description: Description, top: int = 5) -> list[tuple[int, float]]:
    """Return the most probable labels without children, with their probabilities."""
    output, parents = run({"image": values})[0][0], description["labels"]["parents"]
    probability = label_probabilities(output, parents) if description["form"] == "raw" else output
    is_leaf = ~np.isin(np.arange(len(output)), parents)
    best = np.argsort(-np.where(is_leaf, probability, -1))[: min(top, int(is_leaf.sum()))]
    return [(int(label), float(probability[label])) for label in best]


def main() -> None:
    """Print one line per detection, or the best labels of a classifier, for each image."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--conf", type=float, default=0.25, help="confidence threshold")
    parser.add_argument("--iou", type=float, default=0.45, help="NMS IoU threshold")
    parser.add_argument("--hier-thresh", type=float, default=0.5, help="threshold of the descent through a label tree")
    parser.add_argument("--model", type=Path, default=Path(__file__).resolve().with_name(MODEL), help="model file")
    options = parser.parse_args()
    run, description = open_model(options.model)
    names = description["labels"]["names"]
    for path in options.images:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file).convert("RGB")
        values, to_image = prepare(image, description)
        values = np.repeat(values, description["input"]["batch"] or 1, axis=0)
        if description["task"] == "classify":
            for label, score in classify(run, values, description):
                print(f"{path}  {names[label]}  {score:.4f}")
            continue
        boxes, scores, labels = detect(run, values, description, options)
        boxes = np.clip(to_image(boxes), 0, [image.width, image.height] * 2)
        for (left, top, right, bottom), score, label in zip(boxes, scores, labels, strict=True):
            if right > left and bottom > top:
                print(f"{path}  {names[label]}  {score:.4f}  {left:.1f} {top:.1f} {right:.1f} {bottom:.1f}")


if __name__ == "__main__":
    main()
