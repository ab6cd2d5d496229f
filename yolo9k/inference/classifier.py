"""`ImageClassifier`: a trained network that takes images and says what each of them is."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from yolo9k.build import ClassifierNetwork
from yolo9k.config import ClassifierConfig, Override, with_overrides
from yolo9k.darknet.images import center_crop
from yolo9k.darknet.network import DarknetNetwork
from yolo9k.errors import DataError
from yolo9k.hardware import autocast, choose_device, choose_memory_format, choose_precision
from yolo9k.images import resize_center_crop
from yolo9k.inference.running import check_image, explain_memory, to_network
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
    """What one image is called.

    `label` (T,): labels without any below them, the likeliest first, with their probabilities `score` (T,); `path`
    (T, D): the probability of each node on the way to the label, by depth, NaN beyond it. `reached`: where the descent
    from the roots ended, with the probabilities on its way, `reached_path` (D,); none where labels are flat. `names`
    are those of all nodes.
    """

    label: np.ndarray
    score: np.ndarray
    path: np.ndarray
    reached: int | None = None
    reached_path: np.ndarray | None = None
    names: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def empty(cls, names: tuple[str, ...] = ()) -> "Classification":
        """Of an image that nothing is known of."""
        none = np.zeros(0, np.float32)
        return cls(np.zeros(0, np.int64), none, none[:, None], names=names)

    def __len__(self) -> int:
        return len(self.label)

    def __iter__(self) -> Iterator[tuple[str, float]]:
        """Rows as (name, probability), the likeliest first."""
        for label, score in zip(self.label, self.score, strict=True):
            yield self.names[label], float(score)


@dataclass(frozen=True)
class LogitBatch:
    """Logits (M, K), float32 on the network's device, of the images of a batch that could be read (`is_read`)."""

    is_read: list[bool]
    logits: Tensor


class ImageClassifier:
    """A network ready to classify: `classifier(image) -> Classification`.

    The network is used as it is given (set to evaluation mode); `ImageClassifier.load` reads one from a file and folds
    its batch norms into the convolutions. `size_wh` of the network's input, if not the config's. Raises `ConfigError`
    for a size that the network cannot take, `MachineError` for a device that is not here.
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
        self.memory_format = choose_memory_format(config.train.channels_last, self.device)
        self.network = network.to(self.device, memory_format=self.memory_format).eval()  # type: ignore[call-overload]
        self.labels, self.scores = labels, HierarchicalSoftmax(labels).to(self.device)
        self.config = with_overrides(config, [Override("data.size", size_wh, "data.size")]) if size_wh else config
        self.size_wh = self.config.data.size
        if isinstance(network, DarknetNetwork):
            network.check_size(self.size_wh)

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
    ) -> "ImageClassifier":
        """A classifier from a run folder, a checkpoint, a Darknet file or a model of the catalogue.

        Arguments as those of `Detector.load`. Raises `WeightsError` for a file that is missing, wrong, partial or a
        detector's, and what `ImageClassifier` raises.
        """
        stored = open_weights(weights, files, track)
        network, config = build_whole_classifier(stored, weights)
        folded = fold_norms(network.eval())
        return cls(folded, stored.labels, config, size_wh=size_wh, device=device, precision=precision)

    def __call__(self, image: ImageInput, *, top: int = TOP, hier_thresh: float | None = None) -> Classification:
        """Classify one image: a path, or uint8 (H, W, 3) RGB. Options as those of `stream`; raises `DataError`."""
        return next(iter(self.stream([image], batch=1, top=top, hier_thresh=hier_thresh)))

    def stream(
        self,
        images: Iterable[ImageInput],
        *,
        batch: int = 16,
        top: int = TOP,
        hier_thresh: float | None = None,
        on_bad: Callable[[DataError], None] | None = None,
    ) -> Iterator[Classification]:
        """Classify many images, in their order, `batch` at a time; the next ones are read meanwhile.

        `top`: how many labels each gets; `hier_thresh`: in a tree, the descent goes on while the probability is above
        it (.5). Raises `ConfigError` for it where labels are flat, and `DataError` for a bad image unless `on_bad`
        takes the error: then that image gets no label, and the others follow.
        """
        threshold = descent_threshold(self.labels, hier_thresh)
        for answers in self.answers(images, batch=batch, on_bad=on_bad):
            found = self._each(predict_labels(self.scores, answers.logits, top, threshold))
            for is_read in answers.is_read:
                yield next(found) if is_read else Classification.empty(self.labels.names)

    def answers(
        self, images: Iterable[ImageInput], *, batch: int, on_bad: Callable[[DataError], None] | None = None
    ) -> Iterator[LogitBatch]:
        """What the network says of many images, `batch` at a time. Raises as `stream` does."""
        prepared = read_ahead(images, self._prepare, ahead=2 * batch)
        while part := list(islice(prepared, batch)):
            for item in part:
                if isinstance(item, DataError):
                    if on_bad is None:
                        raise item
                    on_bad(item)
            good = [item for item in part if not isinstance(item, DataError)]
            yield LogitBatch([not isinstance(item, DataError) for item in part], self._logits(good))

    def _prepare(self, image: np.ndarray) -> Tensor:
        """The middle of an image at the network's size, (3, H, W) bytes or floats in [0, 1]."""
        check_image(image)
        if self.config.data.resize == "darknet":
            return torch.from_numpy(center_crop(image, self.size_wh))
        return torch.from_numpy(resize_center_crop(image, self.size_wh)).permute(2, 0, 1)

    @torch.inference_mode()
    def _logits(self, inputs: list[Tensor]) -> Tensor:
        if not inputs:
            return torch.zeros(0, len(self.labels), device=self.device)
        images = torch.stack(inputs)
        with explain_memory(self.device, images), autocast(self.device, self.precision):
            logits: Tensor = self.network(to_network(images, self.device, self.memory_format))
        return logits.float()

    def _each(self, named: LabelPredictions) -> Iterator[Classification]:
        """The names of a batch, image by image."""
        label, score, path, reached, way = (
            values.cpu().numpy() for values in (named.label, named.score, named.path, named.reached, named.reached_path)
        )
        for row in range(len(label)):
            descent = {} if self.labels.is_flat else {"reached": int(reached[row]), "reached_path": way[row]}
            yield Classification(label[row], score[row], path[row], names=self.labels.names, **descent)
