"""Export weights of any origin: build the network, write the file, compare it with PyTorch."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from yolo9k.build import build_codec, build_scores
from yolo9k.checkpoint import Checkpoint
from yolo9k.config import ClassifierConfig, Config, Override, with_overrides
from yolo9k.errors import ConfigError, MachineError
from yolo9k.export.parity import Parity, compare_detections, compare_outputs
from yolo9k.exported import FORMS, ExportInfo, Form
from yolo9k.inference.engines.session import EXTRAS, Runtime, Session, open_session
from yolo9k.inference.engines.torch_engine import TorchEngine
from yolo9k.inference.resize import CENTER_CROPS, FITS, prepare
from yolo9k.io import writing
from yolo9k.models.norms import fold_norms
from yolo9k.pretrained import build_detector, build_whole_classifier
from yolo9k.progress import Track, silent
from yolo9k.wordtree.softmax import HierarchicalSoftmax


@dataclass(frozen=True)
class Format:
    """A file format: its suffix, the packages that write it, and the runtime that checks it."""

    suffix: str
    packages: tuple[str, ...]
    runtime: Runtime


FORMATS = {
    "onnx": Format(".onnx", ("onnx", "onnxscript", "onnxruntime"), "onnxruntime"),
    "openvino": Format(".xml", ("onnx", "onnxscript", "openvino"), "openvino"),
}


@dataclass(frozen=True)
class Exported:
    """What was written: the file, its facts, and how far it is from PyTorch."""

    path: Path
    info: ExportInfo
    parity: Parity


def require_packages(format_name: str) -> None:
    """Raise `MachineError` if the packages that write a format are not installed."""
    missing = [package for package in FORMATS[format_name].packages if not find_spec(package)]
    if missing:
        extra = EXTRAS[FORMATS[format_name].runtime]
        raise MachineError(f"--format {format_name}: {', '.join(missing)} missing; run: pip install 'yolo9k[{extra}]'")


def export_weights(
    stored: Checkpoint,
    source: str | Path,
    target: Path,
    format_name: str,
    *,
    form: Form | None = None,
    size_wh: tuple[int, int] | None = None,
    batch: int | None = None,
    images: Sequence[np.ndarray],
    track: Track = silent,
) -> Exported:
    """Write weights as a file of a format and compare it with PyTorch on images (H, W, 3).

    `form`: default: detections, of a classifier probabilities; `size_wh`: input size (default: that of the config);
    `batch`: fixed batch size, `None`: any. Raises `ConfigError` for a form or size that the network does not have,
    `WeightsError` if the weights cannot run or the file computes something else, `MachineError` if it cannot be
    written.
    """
    require_packages(format_name)
    given = [Override("data.size", size_wh, "data.size")] if size_wh else []
    if isinstance(stored.config, ClassifierConfig):
        network, config = build_whole_classifier(stored, source)
        return _export(stored, with_overrides(config, given), network, target, format_name, form, batch, images, track)
    detector, detector_config = build_detector(stored, source)
    detector_config = with_overrides(detector_config, given)
    detector.check_size(detector_config.data.size)
    return _export(stored, detector_config, detector, target, format_name, form, batch, images, track)


def _export(
    stored: Checkpoint,
    config: Config | ClassifierConfig,
    network: Any,
    target: Path,
    format_name: str,
    form: Form | None,
    batch: int | None,
    images: Sequence[np.ndarray],
    track: Track,
) -> Exported:
    info = ExportInfo(
        _choose_form(form, config), config, stored.labels,
        stride=int(getattr(network, "stride", 32)), anchors=_anchors(network, config), batch=batch,
        from_darknet=stored.darknet is not None, supervision=stored.supervision,
    )  # fmt: skip
    folded = fold_norms(network.eval())
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:  # nothing is replaced by a file that is wrong
            draft = Path(folder) / target.name
            for write in track([_writer(format_name)], "Exporting", 1):
                write(_graph(folded, info), info, draft)
            session = open_session(draft, FORMATS[format_name].runtime, "float32")
            parity = _compare(session, network, np.stack([_fit(image, config) for image in images]), target)
            for path in sorted(Path(folder).iterdir()):
                path.replace(target.with_name(path.name))
    return Exported(target, info, parity)


def _compare(session: Session, network: Any, images: np.ndarray, target: Path) -> Parity:
    """Compare a file with its network, whose norms are not folded."""
    info = session.info
    if info.form != "detections":
        return compare_outputs(session, _graph(network, info), images, target)
    assert isinstance(info.config, Config)
    reference = TorchEngine(network, info.labels, info.config, device="cpu", precision="float32")
    return compare_detections(session, reference, images, target)


def _choose_form(form: Form | None, config: Config | ClassifierConfig) -> Form:
    forms = FORMS["classify" if isinstance(config, ClassifierConfig) else "detect"]
    if form is not None and form not in forms:
        kind = "classifier" if isinstance(config, ClassifierConfig) else "detector"
        raise ConfigError(f"--form {form}: a {kind} has the forms {' and '.join(forms)}")
    return form or forms[0]


def _anchors(network: Any, config: Config | ClassifierConfig) -> tuple[tuple[float, float], ...]:
    if isinstance(config, ClassifierConfig):
        return ()
    return tuple((float(w), float(h)) for w, h in network.anchors.tolist())


def _graph(network: Any, info: ExportInfo) -> nn.Module:
    """Return what the file computes."""
    from yolo9k.export.graphs import ProbabilityGraph, RawGraph, build_graph

    if info.form == "raw":
        return RawGraph(network)
    if info.form == "probabilities":
        return ProbabilityGraph(network, HierarchicalSoftmax(info.labels))
    assert isinstance(info.config, Config)
    scores = build_scores(info.config.model, info.labels)
    return build_graph(network, build_codec(info.config.model, network), scores, info.labels)


def _writer(format_name: str) -> Callable[[nn.Module, ExportInfo, Path], None]:
    if format_name == "onnx":
        from yolo9k.export.onnx_file import write_onnx

        return write_onnx
    from yolo9k.export.openvino_file import write_openvino

    return write_openvino


def _fit(image: np.ndarray, config: Config | ClassifierConfig) -> np.ndarray:
    """Return an image at the network's size, as the detector or classifier prepares it."""
    if isinstance(config, ClassifierConfig):
        return prepare(image, CENTER_CROPS[config.data.resize](config.data.size), config.data.channels)
    data = config.data
    return prepare(image, FITS[data.resize, data.resize_mode](data.size), data.channels)
