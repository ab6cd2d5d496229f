"""`Detector`: run a trained detector on images and return boxes in pixels of the image."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from yolo9k.boxes import area, clip
from yolo9k.build import Network, build_codec, build_scores
from yolo9k.config import Config, Override, with_overrides
from yolo9k.detection.class_decoder import BestLabel, ClassDecoder, DescentRule, HierarchicalDescent, MultiLabel
from yolo9k.detection.postprocess import Candidates, find_candidates, suppress
from yolo9k.detection.thresholds import ThresholdOptions, Thresholds
from yolo9k.errors import ConfigError, DataError
from yolo9k.hardware import autocast, choose_device, choose_memory_format, choose_precision
from yolo9k.inference.network_input import MemoryLimit, explain_large_batch, prepare, to_network_input
from yolo9k.inference.resize import FITS
from yolo9k.inference.sources import ImageInput, read_ahead
from yolo9k.models.norms import fold_norms
from yolo9k.placements import ResizeMode
from yolo9k.pretrained import DarknetFiles, build_detector, open_weights
from yolo9k.progress import Track, silent
from yolo9k.samples import Detections
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.supervision import Supervision
from yolo9k.wordtree.tree import describe

if TYPE_CHECKING:
    from typing_extensions import Unpack

DEFAULT_THRESHOLDS = Thresholds()
HIER_THRESH = 0.5  # Darknet's


class Detector:
    """A network ready to detect: `detector(image) -> Detections`.

    Sets the network to evaluation mode and leaves it otherwise as it is; `Detector.load` reads one from a file and
    folds its batch norms into the convolutions. `size_wh`: input size, `resize_mode`: letterbox or stretch images to
    it (defaults: `data.size` and `data.resize_mode` of the config); `supervision`: how the labels were trained, if
    known. Raises `ConfigError` for a size that the network cannot take and `MachineError` for a device that is not
    available.
    """

    def __init__(
        self,
        network: Network,
        labels: WordTree,
        config: Config,
        *,
        size_wh: tuple[int, int] | None = None,
        resize_mode: ResizeMode | None = None,
        device: str | torch.device = "auto",
        precision: str = "auto",
        supervision: Supervision | None = None,
    ) -> None:
        self.device = choose_device(str(device))
        self.precision = choose_precision(precision, self.device)
        self.memory_format = choose_memory_format(config.train.channels_last, self.device)
        self.network = network.to(self.device, memory_format=self.memory_format).eval()  # type: ignore[call-overload]
        self.codec = build_codec(config.model, self.network)
        self.softmax = build_scores(config.model, labels).to(self.device)
        self.labels, self.supervision = labels, supervision
        self.default_decoder = self.class_decoder()
        given = {"data.size": size_wh, "data.resize_mode": resize_mode}
        overrides = [Override(key, value, key) for key, value in given.items() if value]
        self.config = with_overrides(config, overrides)
        data = self.config.data
        self.size_wh = data.size
        self.resize = FITS[data.resize, data.resize_mode](self.size_wh)
        self.network.check_size(self.size_wh)
        # Here, where no other thread has the network yet: the estimate replaces its parameters for a moment.
        self._memory_limit = MemoryLimit(network, self.size_wh, self.device, self.precision, network.features)

    @classmethod
    def load(
        cls,
        weights: str | Path,
        *,
        device: str = "auto",
        size_wh: tuple[int, int] | None = None,
        resize_mode: ResizeMode | None = None,
        precision: str = "auto",
        files: DarknetFiles | None = None,
        track: Track = silent,
    ) -> "Detector":
        """Load a detector from a run folder, a checkpoint, a Darknet file or the catalogue.

        `size_wh`: input size, multiples of the network's stride; `resize_mode`: as for `Detector`; `files`:
        the other files of a Darknet network (cfg, names, tree). Raises `WeightsError` if the file is missing, invalid
        or partial, and as `Detector` does.
        """
        stored = open_weights(weights, files, track)
        network, config = build_detector(stored, weights)
        folded = fold_norms(network.eval())
        return cls(
            folded, stored.labels, config,
            size_wh=size_wh, resize_mode=resize_mode, device=device, precision=precision,
            supervision=stored.supervision,
        )  # fmt: skip

    def class_decoder(
        self,
        *,
        hier_thresh: float | None = None,
        rule: DescentRule = "paper",
        leaves_only: bool = False,
        under: Sequence[str] = (),
    ) -> ClassDecoder:
        """Return how boxes get their labels, for `stream`.

        Flat labels: every label above the confidence threshold. In a tree: the node where a descent from the roots
        ends, which continues while the path probability is above `hier_thresh` (default 0.5), by the `rule` of the
        paper or of Darknet (see `HierarchicalDescent`). `leaves_only`: the most probable leaf, without a descent.
        `under`: only these nodes (ids, names or aliases) and their descendants. Raises `ConfigError` for an unknown
        node, for any of these options with flat labels, and for descent options with `leaves_only`.
        """
        has_descent_options = hier_thresh is not None or rule != "paper"
        if self.labels.is_flat:
            if leaves_only or under or has_descent_options:
                raise ConfigError(
                    "hier-thresh, leaves-only, under and tree-mode need a label tree, but these labels are flat "
                    f"({describe(self.labels.names)}); use classes to select labels"
                )
            return MultiLabel(self.labels, self.softmax.kind, self.device)
        starts = self._find_nodes(under, "under")
        if leaves_only:
            if has_descent_options:
                raise ConfigError(
                    "leaves-only: chooses the most probable leaf without a descent; remove hier-thresh and tree-mode"
                )
            nodes = self._descendants(starts) if under else range(len(self.labels))
            return BestLabel(self.labels, self.device, [node for node in nodes if self.labels.leaves[node]])
        threshold = HIER_THRESH if hier_thresh is None else hier_thresh
        return HierarchicalDescent(self.labels, self.softmax, threshold, rule, starts)

    def multi_label_decoder(self, nodes: Sequence[int]) -> ClassDecoder:
        """Return a decoder that gives boxes all of these nodes that are above the threshold, for evaluation."""
        return MultiLabel(self.labels, self.softmax.kind, self.device, nodes)

    def __call__(
        self,
        image: ImageInput,
        thresholds: Thresholds = DEFAULT_THRESHOLDS,
        *,
        classes: Sequence[str] = (),
        class_decoder: ClassDecoder | None = None,
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
        class_decoder: ClassDecoder | None = None,
        on_unreadable: Callable[[DataError], None] | None = None,
        **overrides: "Unpack[ThresholdOptions]",
    ) -> Iterator[Detections]:
        """Detect objects in many images: yield their detections in order, and read the next images meanwhile.

        `batch`: batch size, lowered with a warning if the memory is too small; the other options and the errors are
        those of `Detector.__call__`, and `MachineError` if not even one image fits. If `on_unreadable` is given, it
        receives the `DataError` of an unreadable image, the image gets no detections, and the stream goes on.
        """
        thresholds = replace(thresholds, **overrides)
        nodes = self._descendants(self._find_nodes(classes, "classes"))
        decoder = class_decoder or self.default_decoder
        batch = self._memory_limit.fit(batch)
        prepared = read_ahead(images, self._prepare, ahead=2 * batch)
        while items := list(islice(prepared, batch)):
            readable = [item for item in items if not isinstance(item, DataError)]
            results: Iterator[Detections] = iter(())
            if readable:
                boxes = self._detect(torch.stack([tensor for tensor, _ in readable]), thresholds.conf, decoder)
                if nodes:
                    boxes = boxes[torch.isin(boxes.label, torch.tensor(nodes, device=self.device))]
                boxes = suppress(boxes, thresholds, spans=decoder.spans)
                results = self._split(boxes, [image_wh for _, image_wh in readable])
            for item in items:
                if not isinstance(item, DataError):
                    yield next(results)
                elif on_unreadable is None:
                    raise item
                else:
                    on_unreadable(item)
                    yield Detections.empty(self.labels.names)

    def _find_nodes(self, names: Sequence[str], option: str) -> list[int]:
        try:
            return [self.labels.find(name) for name in names]
        except DataError as error:
            raise ConfigError(f"{option}: {error}") from error

    def _descendants(self, nodes: Sequence[int]) -> list[int]:
        """Return these nodes and their descendants, sorted."""
        return sorted({below for node in nodes for below in self.labels.subtree(node)})

    def _prepare(self, image: np.ndarray) -> tuple[torch.Tensor, tuple[int, int]]:
        """Return an image fitted to the network's size, (C, H, W) as from `prepare`, and its own size."""
        return prepare(image, self.resize, self.config.data.channels), (image.shape[1], image.shape[0])

    @torch.inference_mode()
    def _detect(self, images: torch.Tensor, conf: float, class_decoder: ClassDecoder) -> Candidates:
        with explain_large_batch(self.device, images):
            with autocast(self.device, self.precision):
                features = self.network.features(to_network_input(images, self.device, self.memory_format))
            # The head runs in float32: it costs little, and bf16 would quantise the scores coarsely.
            return find_candidates(self.network.head, features.float(), self.codec, self.size_wh, class_decoder, conf)

    def _split(self, boxes: Candidates, sizes_wh: Sequence[tuple[int, int]]) -> Iterator[Detections]:
        """Yield the boxes of a batch image by image, in pixels of the image; boxes within the padding are removed."""
        image_index = boxes.image_index.cpu().numpy()
        xyxy, score = (t.float().cpu().numpy() for t in (boxes.xyxy, boxes.score))
        label = boxes.label.cpu().numpy()
        path = None if boxes.path is None else boxes.path.cpu().numpy()
        for index, image_wh in enumerate(sizes_wh):
            rows = image_index == index
            xyxy_px = clip(self.resize.undo(xyxy[rows], image_wh), image_wh)
            row_path = None if path is None else path[rows]
            detections = Detections(xyxy_px, score[rows], label[rows], self.labels.names, row_path)
            yield detections[area(xyxy_px) > 0]
