"""`ImageClassifier`: run a trained classifier on images and return the most probable labels of each."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from yolo9k.build import ClassifierNetwork
from yolo9k.config import ClassifierConfig, Override, with_overrides
from yolo9k.darknet.network import DarknetNetwork
from yolo9k.errors import DataError, WeightsError
from yolo9k.exported import is_exported
from yolo9k.hardware import autocast, choose_device, choose_memory_format, choose_precision
from yolo9k.inference.engines.session import Session, check_exported_size, open_session, refuse_runtime
from yolo9k.inference.engines.session_network import SessionNetwork
from yolo9k.inference.network_input import MemoryLimit, explain_large_batch, to_network_input
from yolo9k.inference.resize import CENTER_CROPS, prepare
from yolo9k.inference.sources import ImageInput, read_ahead
from yolo9k.models.norms import fold_norms
from yolo9k.pretrained import DarknetFiles, build_whole_classifier, open_weights
from yolo9k.progress import Track, silent
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.prediction import LabelPredictions, descent_threshold, predict_labels
from yolo9k.wordtree.softmax import HierarchicalSoftmax

TOP = 5


@dataclass(frozen=True)
class Classification:
    """The most probable labels of one image.

    `label` (T,): leaves of the label tree, most probable first; `score` (T,): their probabilities; `path` (T, D): the
    path probability of each node from the root to the label, by depth, then NaN. `names`: the names of all nodes.

    In a tree, `descent_label` is the node where the descent from the roots ended, and `descent_path` (D,) its path
    probabilities. `None`: the labels are flat.
    """

    label: np.ndarray
    score: np.ndarray
    path: np.ndarray
    descent_label: int | None = None
    descent_path: np.ndarray | None = None
    names: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def empty(cls, names: tuple[str, ...] = ()) -> "Classification":
        """Return the classification of an unreadable image: no labels."""
        no_scores = np.zeros(0, np.float32)
        return cls(np.zeros(0, np.int64), no_scores, no_scores[:, None], names=names)

    def __len__(self) -> int:
        return len(self.label)

    def __iter__(self) -> Iterator[tuple[str, float]]:
        """Iterate over rows as (class name, probability), most probable first."""
        for label, score in zip(self.label, self.score, strict=True):
            yield self.names[label], float(score)


@dataclass(frozen=True)
class EngineFacts:
    """What runs a classifier's network, and its number format."""

    name: str
    precision: str


@dataclass(frozen=True)
class LogitBatch:
    """The logits of a batch of B images, of which M could be read.

    `is_read`: B flags; `logits` (M, K): float32, on the network's device, of the readable images in order.
    """

    is_read: list[bool]
    logits: Tensor


class ImageClassifier:
    """A network ready to classify: `classifier(image) -> Classification`.

    Sets the network to evaluation mode and leaves it otherwise as it is; `ImageClassifier.load` reads one from a file
    and folds its batch norms into the convolutions. `size_wh`: input size (default: `data.size` of the config).
    Raises `ConfigError` for a size that the network cannot take and `MachineError` for a device that is not available.
    """

    def __init__(
        self,
        network: ClassifierNetwork,
        labels: WordTree,
        config: ClassifierConfig,
        *,
        size_wh: tuple[int, int] | None = None,
        device: str | torch.device = "auto",
        precision: str = "auto",
    ) -> None:
        self.device = choose_device(str(device))
        self.precision = choose_precision(precision, self.device)
        self.engine = EngineFacts("torch", self.precision)
        self.memory_format = choose_memory_format(config.train.channels_last, self.device)
        self.network = network.to(self.device, memory_format=self.memory_format).eval()  # type: ignore[call-overload]
        self.labels, self.softmax = labels, HierarchicalSoftmax(labels).to(self.device)
        self.config = with_overrides(config, [Override("data.size", size_wh, "data.size")]) if size_wh else config
        self.size_wh = self.config.data.size
        self.resize = CENTER_CROPS[self.config.data.resize](self.size_wh)
        if isinstance(network, DarknetNetwork):
            network.check_size(self.size_wh)
        # Here, where no other thread has the network yet: the estimate replaces its parameters for a moment.
        self._memory_limit = MemoryLimit(network, self.size_wh, self.device, self.precision)

    @classmethod
    def load(
        cls,
        weights: str | Path,
        *,
        device: str = "auto",
        size_wh: tuple[int, int] | None = None,
        precision: str = "auto",
        engine: str = "auto",
        files: DarknetFiles | None = None,
        track: Track = silent,
    ) -> "ImageClassifier":
        """Load a classifier from a run folder, a checkpoint, a Darknet file, the catalogue or an exported file.

        Arguments as for `Detector.load`. Raises `WeightsError` if the file is missing, invalid, partial or of a
        detector, and as `ImageClassifier` does.
        """
        if is_exported(weights):
            if files is not None:
                files.refuse(weights, "an exported file")
            return cls._of_session(open_session(Path(weights), engine, precision, device), weights, size_wh)
        refuse_runtime(engine, weights)
        stored = open_weights(weights, files, track)
        network, config = build_whole_classifier(stored, weights)
        if precision == "auto" and stored.darknet is not None:
            precision = "float32"
        folded = fold_norms(network.eval())
        return cls(folded, stored.labels, config, size_wh=size_wh, device=device, precision=precision)

    @classmethod
    def _of_session(cls, session: Session, source: str | Path, size_wh: tuple[int, int] | None) -> "ImageClassifier":
        """Return a classifier that runs an exported file."""
        info = session.info
        if not isinstance(info.config, ClassifierConfig):
            raise WeightsError(f"{source}: a detector, not a classifier; run it with yolo9k detect")
        check_exported_size(info, source, size_wh)
        network: Any = SessionNetwork(session)
        classifier = cls(network, info.labels, info.config, device="cpu", precision="float32")
        classifier.engine = EngineFacts(session.name, session.precision)
        return classifier

    def __call__(self, image: ImageInput, *, top: int = TOP, hier_thresh: float | None = None) -> Classification:
        """Classify one image: a path, or uint8 (H, W, 3) RGB. Options and errors as for `stream`."""
        return next(self.stream([image], batch=1, top=top, hier_thresh=hier_thresh))

    def stream(
        self,
        images: Iterable[ImageInput],
        *,
        batch: int = 16,
        top: int = TOP,
        hier_thresh: float | None = None,
        on_unreadable: Callable[[DataError], None] | None = None,
    ) -> Iterator[Classification]:
        """Classify many images: yield their classifications in order, and read the next images meanwhile.

        `batch`: batch size, lowered with a warning if the memory is too small; `top`: number of labels per image;
        `hier_thresh`: in a tree, descend while the path probability is above it (default 0.5). Raises `ConfigError` for
        a `hier_thresh` with flat labels, `DataError` for an unreadable image, and `MachineError` if not even one image
        fits into the memory. If `on_unreadable` is given, it receives the `DataError`, the image gets no labels, and
        the stream goes on.
        """
        threshold = descent_threshold(self.labels, hier_thresh)
        for logits in self.stream_logits(images, batch=batch, on_unreadable=on_unreadable):
            rows = self._split(predict_labels(self.softmax, logits.logits, top, threshold))
            for is_read in logits.is_read:
                yield next(rows) if is_read else Classification.empty(self.labels.names)

    def stream_logits(
        self, images: Iterable[ImageInput], *, batch: int, on_unreadable: Callable[[DataError], None] | None = None
    ) -> Iterator[LogitBatch]:
        """Yield the logits of many images, batch by batch. Errors and `on_unreadable` as for `stream`."""
        batch = self._memory_limit.fit(batch)
        prepared = read_ahead(images, self._prepare, self.resize.needed_wh, ahead=2 * batch)
        while items := list(islice(prepared, batch)):
            for item in items:
                if isinstance(item, DataError):
                    if on_unreadable is None:
                        raise item
                    on_unreadable(item)
            readable = [item for item in items if not isinstance(item, DataError)]
            yield LogitBatch([not isinstance(item, DataError) for item in items], self._logits(readable))

    def _prepare(self, image: np.ndarray, image_wh: tuple[int, int]) -> np.ndarray:
        """Return the centre of an image at the network's size: (C, H, W), uint8 or floats in [0, 1]."""
        return prepare(image, self.resize, self.config.data.channels, image_wh)

    @torch.inference_mode()
    def _logits(self, inputs: list[np.ndarray]) -> Tensor:
        if not inputs:
            return torch.zeros(0, len(self.labels), device=self.device)
        images = torch.from_numpy(np.stack(inputs))
        with explain_large_batch(self.device, images), autocast(self.device, self.precision):
            logits: Tensor = self.network(to_network_input(images, self.device, self.memory_format))
        return logits.float()

    def _split(self, predictions: LabelPredictions) -> Iterator[Classification]:
        """Yield the predictions of a batch image by image."""
        label, score, path = (t.cpu().numpy() for t in (predictions.label, predictions.score, predictions.path))
        end, end_path = (t.cpu().numpy() for t in (predictions.descent_label, predictions.descent_path))
        for row in range(len(label)):
            descent = {} if self.labels.is_flat else {"descent_label": int(end[row]), "descent_path": end_path[row]}
            yield Classification(label[row], score[row], path[row], names=self.labels.names, **descent)
