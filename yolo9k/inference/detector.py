"""`Detector`: a trained network that takes images and gives detections in pixels of the image."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from yolo9k.boxes import area, clip, cxcywh_to_xyxy, xyxy_to_cxcywh
from yolo9k.build import Network, build_codec, build_scores
from yolo9k.config import Config, Override, with_overrides
from yolo9k.darknet.images import correct_boxes, letterbox
from yolo9k.detection.class_decoder import BestLabel, ClassDecoder, DescentRule, HierarchicalDescent, MultiLabel
from yolo9k.detection.postprocess import Candidates, candidates, suppress
from yolo9k.detection.thresholds import ThresholdOptions, Thresholds
from yolo9k.errors import ConfigError, DataError
from yolo9k.hardware import autocast, choose_device, choose_memory_format, choose_precision
from yolo9k.images import apply_placement, letterbox_placement
from yolo9k.inference.running import check_image, explain_memory, to_network
from yolo9k.inference.sources import ImageInput, read_ahead
from yolo9k.models.norms import fold_norms
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

    The network is used as it is given (set to evaluation mode); `Detector.load` reads one from a file and
    folds its batch norms into the convolutions. `size_wh` of the network's input, if not the config's; `supervision`:
    what its labels were taught with, where that is known.
    Raises `ConfigError` for a size that the network cannot take, `MachineError` for a device that is not here.
    """

    def __init__(
        self,
        network: Network,
        labels: WordTree,
        config: Config,
        *,
        size_wh: tuple[int, int] | None = None,
        device: str | torch.device = "auto",
        precision: str = "auto",
        supervision: Supervision | None = None,
    ) -> None:
        self.device = choose_device(str(device))
        self.precision = choose_precision(precision, self.device)
        self.memory_format = choose_memory_format(config.train.channels_last, self.device)
        self.network = network.to(self.device, memory_format=self.memory_format).eval()  # type: ignore[call-overload]
        self.codec = build_codec(config.model, self.network)
        self.scores = build_scores(config.model, labels).to(self.device)
        self.labels, self.supervision = labels, supervision
        self.default_decoder = self.class_decoder()
        self.config = with_overrides(config, [Override("data.size", size_wh, "data.size")]) if size_wh else config
        self.size_wh = self.config.data.size
        self.network.check_size(self.size_wh)

    @classmethod
    def load(
        cls,
        weights: str | Path,
        *,
        device: str = "auto",
        size_wh: tuple[int, int] | None = None,
        precision: str = "auto",
        files: DarknetFiles | None = None,
        track: Track = silent,
    ) -> "Detector":
        """A detector from a run folder, a checkpoint, a Darknet file or a model of the catalogue.

        `size_wh` of the network's input, multiples of its stride; `files`: what a Darknet file needs beside it.
        Raises `WeightsError` for a file that is missing, wrong or partial, and what `Detector` raises.
        """
        stored = open_weights(weights, files, track)
        network, config = build_detector(stored, weights)
        folded = fold_norms(network.eval())
        return cls(
            folded, stored.labels, config,
            size_wh=size_wh, device=device, precision=precision, supervision=stored.supervision,
        )  # fmt: skip

    def class_decoder(
        self,
        *,
        hier_thresh: float | None = None,
        rule: DescentRule = "paper",
        leaves_only: bool = False,
        under: Sequence[str] = (),
    ) -> ClassDecoder:
        """How boxes are named, for `stream`: with flat labels by each that is likely enough, in a tree by one.

        In a tree a descent from the roots goes on while the probability is above `hier_thresh` (.5), by the `rule`
        of the paper or of Darknet (see `HierarchicalDescent`). `leaves_only`: the most probable leaf instead. `under`:
        only these nodes (ids, names or aliases) and their descendants. Raises `ConfigError` for a node that the labels
        do not have, and where flat labels, or `leaves_only`, leave nothing to descend.
        """
        descends = hier_thresh is not None or rule != "paper"
        if self.labels.is_flat:
            if leaves_only or under or descends:
                raise ConfigError(
                    "hier-thresh, leaves-only, under and tree-mode are about label trees, and these labels are flat "
                    f"({describe(self.labels.names)}); choose labels with classes"
                )
            return MultiLabel(self.labels, self.scores.kind, self.device)
        starts = self._numbers(under, "under")
        if leaves_only:
            if descends:
                raise ConfigError(
                    "leaves-only takes the likeliest leaf without a descent: no hier-thresh, no tree-mode"
                )
            inside = range(len(self.labels)) if not under else sorted({n for s in starts for n in self.labels.under(s)})
            return BestLabel(self.labels, self.device, [node for node in inside if self.labels.leaves[node]])
        threshold = HIER_THRESH if hier_thresh is None else hier_thresh
        return HierarchicalDescent(self.labels, self.scores, threshold, rule, starts)

    def multi_label_decoder(self, nodes: Sequence[int]) -> ClassDecoder:
        """Every one of these nodes that is likely enough, as evaluation wants it."""
        return MultiLabel(self.labels, self.scores.kind, self.device, nodes)

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

        `thresholds` can also be given as keywords: `detector(image, conf=0.3, iou=0.5)`; see `Thresholds`.
        `classes`: return only these labels (in a tree also their descendants); `class_decoder`: from
        `Detector.class_decoder`. Raises `DataError` for an unreadable image, `ConfigError` for an unknown class and
        `ValueError` for a threshold out of range.
        """
        stream = self.stream([image], thresholds, batch=1, classes=classes, class_decoder=class_decoder, **overrides)
        return next(stream)

    def stream(
        self,
        images: Iterable[ImageInput],
        thresholds: Thresholds = DEFAULT_THRESHOLDS,
        *,
        batch: int = 8,
        classes: Sequence[str] = (),
        class_decoder: ClassDecoder | None = None,
        on_bad: Callable[[DataError], None] | None = None,
        **overrides: "Unpack[ThresholdOptions]",
    ) -> Iterator[Detections]:
        """Detect objects in many images: yield their detections in order, and read the next images meanwhile.

        `batch`: batch size; other options as for `Detector.__call__`. Raises as that, except for unreadable images
        if `on_bad` is given: it receives the `DataError`, the image gets zero detections, and the stream goes on.
        """
        thresholds = replace(thresholds, **overrides)
        chosen = [node for top in self._numbers(classes, "classes") for node in self.labels.under(top)]
        decoder = class_decoder or self.default_decoder
        prepared = read_ahead(images, self._prepare, ahead=2 * batch)
        while part := list(islice(prepared, batch)):
            good = [item for item in part if not isinstance(item, DataError)]
            results: Iterator[Detections] = iter(())
            if good:
                found = self._detect(torch.stack([tensor for tensor, _ in good]), thresholds.conf, decoder)
                if chosen:
                    found = found[torch.isin(found.label, torch.tensor(chosen, device=self.device))]
                found = suppress(found, thresholds, spans=decoder.spans)
                results = self._in_images(found, [size for _, size in good])
            for item in part:
                if not isinstance(item, DataError):
                    yield next(results)
                elif on_bad is None:
                    raise item
                else:
                    on_bad(item)
                    yield Detections.empty(self.labels.names)

    def _numbers(self, names: Sequence[str], option: str) -> list[int]:
        try:
            return [self.labels.find(name) for name in names]
        except DataError as error:
            raise ConfigError(f"{option}: {error}") from error

    def _prepare(self, image: np.ndarray) -> tuple[torch.Tensor, tuple[int, int]]:
        """An image letterboxed to the network's size, (3, H, W) bytes or floats in [0, 1], and its own size."""
        check_image(image)
        image_wh = (image.shape[1], image.shape[0])
        if self.config.data.resize == "darknet":
            return torch.from_numpy(letterbox(image, self.size_wh)), image_wh
        canvas = apply_placement(image, letterbox_placement(image_wh, self.size_wh), self.size_wh)
        return torch.from_numpy(canvas).permute(2, 0, 1), image_wh

    @torch.inference_mode()
    def _detect(self, images: torch.Tensor, conf: float, class_decoder: ClassDecoder) -> Candidates:
        with explain_memory(self.device, images):
            with autocast(self.device, self.precision):
                features = self.network.features(to_network(images, self.device, self.memory_format))
            # The head runs in float32: small beside the rest, and scores do not jump in steps of bf16.
            return candidates(self.network.head, features.float(), self.codec, self.size_wh, class_decoder, conf)

    def _in_images(self, found: Candidates, sizes_wh: Sequence[tuple[int, int]]) -> Iterator[Detections]:
        """Rows of a batch as detections of each image, in its own pixels; what lies in the grey only is left out."""
        index = found.image_index.cpu().numpy()
        xyxy, score = (t.float().cpu().numpy() for t in (found.xyxy, found.score))
        label = found.label.cpu().numpy()
        path = None if found.path is None else found.path.cpu().numpy()
        for number, image_wh in enumerate(sizes_wh):
            own = index == number
            boxes = clip(self._undo_letterbox(xyxy[own], image_wh), image_wh)
            ways = None if path is None else path[own]
            yield Detections(boxes, score[own], label[own], self.labels.names, ways)[area(boxes) > 0]

    def _undo_letterbox(self, xyxy: np.ndarray, image_wh: tuple[int, int]) -> np.ndarray:
        """Boxes in pixels of the network's input as pixels of the image; Darknet has a rule of its own for it."""
        if self.config.data.resize == "darknet":
            relative = xyxy_to_cxcywh(xyxy) / np.array(self.size_wh * 2, np.float32)
            return cxcywh_to_xyxy(correct_boxes(relative, image_wh, self.size_wh, relative=False))
        return letterbox_placement(image_wh, self.size_wh).to_image(xyxy)
