"""`Detector`: run a trained detector on images and return boxes in pixels of the image."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yolo9k.boxes import area, clip
from yolo9k.config import Config, Override, with_overrides
from yolo9k.detection.thresholds import ThresholdOptions, Thresholds
from yolo9k.errors import ConfigError, DataError, WeightsError
from yolo9k.exported import is_exported
from yolo9k.inference.engines import DecoderOptions, DescentRule, DetectedRows, Engine, Request
from yolo9k.inference.engines.session import Session, check_exported_size, open_session, refuse_runtime
from yolo9k.inference.resize import FITS, prepare
from yolo9k.inference.sources import ImageInput, read_ahead
from yolo9k.placements import ResizeMode
from yolo9k.progress import Track, silent
from yolo9k.samples import Detections
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.supervision import Supervision
from yolo9k.wordtree.tree import HIER_THRESH, describe

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from yolo9k.build import Network
    from yolo9k.pretrained import DarknetFiles

DEFAULT_THRESHOLDS = Thresholds()


@dataclass(frozen=True)
class Decoding:
    """How features become detections: by which thresholds and class decoder, and of which classes.

    `class_decoder`: from a method of the detector, `None`: its default. `classes`: as for `Detector.__call__`.
    """

    thresholds: Thresholds = DEFAULT_THRESHOLDS
    class_decoder: Any = None
    classes: Sequence[str] = ()


class Detector:
    """An engine ready to detect: `detector(image) -> Detections`.

    `Detector.load` opens a file, `Detector.of_network` takes a network in memory. `labels`: of the engine; `config`:
    how images are fitted to its input (`data`); `supervision`: how the labels were trained, if known.
    """

    def __init__(
        self, engine: Engine, labels: WordTree, config: Config, *, supervision: Supervision | None = None
    ) -> None:
        self.engine, self.labels, self.config, self.supervision = engine, labels, config, supervision
        self.size_wh = config.data.size
        self.resize = FITS[config.data.resize, config.data.resize_mode](self.size_wh)
        self.default_decoder = self.class_decoder()

    @classmethod
    def load(
        cls,
        weights: str | Path,
        *,
        device: str = "auto",
        size_wh: tuple[int, int] | None = None,
        resize_mode: ResizeMode | None = None,
        precision: str = "auto",
        engine: str = "auto",
        files: "DarknetFiles | None" = None,
        track: Track = silent,
    ) -> "Detector":
        """Load a detector from a run folder, a checkpoint, a Darknet file, the catalogue or an exported file.

        Batch norms are folded into the convolutions. `precision`: float32, bf16 or fp16 (`auto`: what the machine
        multiplies fastest, but float32 for Darknet's files); `engine`: what runs an exported file. `size_wh`: input
        size, multiples of the network's stride, `resize_mode`: letterbox or stretch images to it (defaults:
        `data.size` and `data.resize_mode` of the config); `files`: the other files of a Darknet network (cfg, names,
        tree). Raises `WeightsError` if the file is missing, invalid or partial, `ConfigError` for a size that the
        network cannot take and `MachineError` for a device that is not available.
        """
        if is_exported(weights):
            if files is not None:
                files.refuse(weights, "an exported file")
            session = open_session(Path(weights), engine, precision, device)
            return cls._of_session(session, weights, size_wh, resize_mode)
        refuse_runtime(engine, weights)
        from yolo9k.models.norms import fold_norms
        from yolo9k.pretrained import build_detector, open_weights

        stored = open_weights(weights, files, track)
        network, config = build_detector(stored, weights)
        if precision == "auto" and stored.darknet is not None:
            precision = "float32"
        return cls.of_network(
            fold_norms(network.eval()), stored.labels, config,
            size_wh=size_wh, resize_mode=resize_mode, device=device, precision=precision,
            supervision=stored.supervision, is_owned=True,
        )  # fmt: skip

    @classmethod
    def _of_session(
        cls, session: Session, source: str | Path, size_wh: tuple[int, int] | None, resize_mode: ResizeMode | None
    ) -> "Detector":
        """Return a detector that runs an exported file."""
        info = session.info
        if not isinstance(info.config, Config):
            raise WeightsError(f"{source}: a classifier, not a detector; run it with yolo9k classify")
        check_exported_size(info, source, size_wh)
        if info.form == "detections":
            from yolo9k.inference.engines.graph_engine import GraphEngine

            engine: Engine = GraphEngine(session)
        else:
            from yolo9k.inference.engines.raw_engine import RawEngine

            engine = RawEngine(session)
        return cls(engine, info.labels, fitted_config(info.config, None, resize_mode), supervision=info.supervision)

    @classmethod
    def of_network(
        cls,
        network: "Network",
        labels: WordTree,
        config: Config,
        *,
        size_wh: tuple[int, int] | None = None,
        resize_mode: ResizeMode | None = None,
        device: str = "auto",
        precision: str = "auto",
        supervision: Supervision | None = None,
        is_owned: bool = False,
    ) -> "Detector":
        """Return a detector with a network in memory, which runs in evaluation mode and otherwise as it is.

        Options and errors as for `Detector.load`. `is_owned`: nobody else uses the network, so its weights may be cast
        to the precision once, which is faster than in each pass.
        """
        from yolo9k.inference.engines.torch_engine import TorchEngine

        config = fitted_config(config, size_wh, resize_mode)
        engine = TorchEngine(network, labels, config, device=device, precision=precision)
        if is_owned:
            engine.cast_weights()
        return cls(engine, labels, config, supervision=supervision)

    def class_decoder(
        self,
        *,
        hier_thresh: float | None = None,
        rule: DescentRule = "paper",
        leaves_only: bool = False,
        under: Sequence[str] = (),
    ) -> Any:
        """Return how boxes get their labels, for `stream`.

        Flat labels: every label above the confidence threshold. In a tree: the node where a descent from the roots
        ends, which continues while the path probability is above `hier_thresh` (default 0.5), by the `rule` of the
        paper or of Darknet (see `HierarchicalDescent`). `leaves_only`: the most probable leaf, without a descent.
        `under`: only these nodes (ids, names or aliases) and their descendants. Raises `ConfigError` for an unknown
        node, for any of these options with flat labels, for descent options with `leaves_only`, and for what the
        engine cannot do.
        """
        has_descent_options = hier_thresh is not None or rule != "paper"
        if self.labels.is_flat and (leaves_only or under or has_descent_options):
            raise ConfigError(
                "hier-thresh, leaves-only, under and tree-mode need a label tree, but these labels are flat "
                f"({describe(self.labels.names)}); use classes to select labels"
            )
        if leaves_only and has_descent_options:
            raise ConfigError(
                "leaves-only: chooses the most probable leaf without a descent; remove hier-thresh and tree-mode"
            )
        starts = tuple(self._find_nodes(under, "under"))
        threshold = HIER_THRESH if hier_thresh is None else hier_thresh
        return self.engine.class_decoder(DecoderOptions(threshold, rule, leaves_only, starts))

    def multi_label_decoder(self, nodes: Sequence[int]) -> Any:
        """Return a decoder that gives boxes all of these nodes that are above the threshold, for evaluation."""
        return self.engine.multi_label_decoder(nodes)

    def __call__(
        self,
        image: ImageInput,
        thresholds: Thresholds = DEFAULT_THRESHOLDS,
        *,
        classes: Sequence[str] = (),
        class_decoder: Any = None,
        **overrides: "Unpack[ThresholdOptions]",
    ) -> Detections:
        """Detect objects in one image: a path, or uint8 (H, W, 3) RGB.

        `overrides`: fields of `Thresholds` as keywords, as in `detector(image, conf=0.3)`. `classes`: return only
        these labels (in a tree also their descendants); `class_decoder`: from `Detector.class_decoder`. Raises
        `DataError` for an unreadable image, `ConfigError` for an unknown class and `ValueError` for a threshold out
        of range.
        """
        return next(
            self.stream([image], thresholds, batch=1, classes=classes, class_decoder=class_decoder, **overrides)
        )

    def stream(
        self,
        images: Iterable[ImageInput],
        thresholds: Thresholds = DEFAULT_THRESHOLDS,
        *,
        batch: int = 8,
        classes: Sequence[str] = (),
        class_decoder: Any = None,
        on_unreadable: Callable[[DataError], None] | None = None,
        **overrides: "Unpack[ThresholdOptions]",
    ) -> Iterator[Detections]:
        """Detect objects in many images: yield their detections in order, and read the next images meanwhile.

        `batch`: batch size, lowered with a warning if the memory is too small; the other options and the errors are
        those of `Detector.__call__`, and `MachineError` if not even one image fits. If `on_unreadable` is given, it
        receives the `DataError` of an unreadable image, the image gets no detections, and the stream goes on.
        """
        decoding = Decoding(replace(thresholds, **overrides), class_decoder, classes)
        for (detections,) in self.stream_each(images, [decoding], batch=batch, on_unreadable=on_unreadable):
            yield detections

    def stream_each(
        self,
        images: Iterable[ImageInput],
        decodings: Sequence[Decoding],
        *,
        batch: int = 8,
        on_unreadable: Callable[[DataError], None] | None = None,
    ) -> Iterator[tuple[Detections, ...]]:
        """Yield for each image the detections of each of several decodings; the network runs once.

        The options and errors are those of `Detector.stream`.
        """
        requests = [self._request(decoding) for decoding in decodings]
        batch = self.engine.fit_batch(batch)
        prepared = read_ahead(images, self.prepare, self.resize.needed_wh, ahead=2 * batch)
        while items := list(islice(prepared, batch)):
            readable = [item for item in items if not isinstance(item, DataError)]
            results: Iterator[tuple[Detections, ...]] = iter(())
            if readable:
                fitted, sizes_wh = zip(*readable, strict=True)
                found = self.engine.detect(np.stack(fitted), requests)
                results = zip(*(self._split(rows, sizes_wh) for rows in found), strict=True)
            for item in items:
                if not isinstance(item, DataError):
                    yield next(results)
                elif on_unreadable is None:
                    raise item
                else:
                    on_unreadable(item)
                    yield (Detections.empty(self.labels.names),) * len(decodings)

    def _find_nodes(self, names: Sequence[str], option: str) -> list[int]:
        try:
            return [self.labels.find(name) for name in names]
        except DataError as error:
            raise ConfigError(f"{option}: {error}") from error

    def prepare(self, image: np.ndarray, image_wh: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
        """Return an image fitted to the network's size, (C, H, W) as from `prepare`, and its own size."""
        return prepare(image, self.resize, self.config.data.channels, image_wh), image_wh

    def _request(self, decoding: Decoding) -> Request:
        nodes = self.labels.with_descendants(self._find_nodes(decoding.classes, "classes"))
        return Request(decoding.thresholds, decoding.class_decoder or self.default_decoder, tuple(nodes))

    def _split(self, rows: DetectedRows, sizes_wh: Sequence[tuple[int, int]]) -> Iterator[Detections]:
        """Yield the rows of a batch image by image, in pixels of the image; boxes within the padding are removed."""
        for index, image_wh in enumerate(sizes_wh):
            own = rows.image_index == index
            xyxy_px = clip(self.resize.undo(rows.xyxy[own], image_wh), image_wh)
            path = None if rows.path is None else rows.path[own]
            detections = Detections(xyxy_px, rows.score[own], rows.label[own], self.labels.names, path)
            yield detections[area(xyxy_px) > 0]


def fitted_config(config: Config, size_wh: tuple[int, int] | None, resize_mode: ResizeMode | None) -> Config:
    """Return a config with another input size or resize mode, if they are given. Raises `ConfigError`."""
    given = {"data.size": size_wh, "data.resize_mode": resize_mode}
    return with_overrides(config, [Override(key, value, key) for key, value in given.items() if value])
