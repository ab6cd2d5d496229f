"""`TorchEngine`: detects with a network in memory, in PyTorch."""

from collections.abc import Sequence

import numpy as np
import torch

from yolo9k.build import Network, build_codec, build_scores
from yolo9k.config import Config
from yolo9k.detection.class_decoder import BestLabel, ClassDecoder, HierarchicalDescent, MultiLabel
from yolo9k.detection.postprocess import Candidates, find_candidates, suppress
from yolo9k.hardware import DTYPES, autocast, choose_device, choose_memory_format, choose_precision
from yolo9k.inference.engines import DecoderOptions, DetectedRows, Request
from yolo9k.inference.network_input import MemoryLimit, explain_large_batch, to_network_input
from yolo9k.models.head import cast_convolutions
from yolo9k.wordtree import WordTree


class TorchEngine:
    """Runs a detection network, which it sets to evaluation mode and leaves otherwise as it is.

    `config`: of the model and the input size. Raises `ConfigError` for a size that the network cannot take and
    `MachineError` for a device that is not available.
    """

    name: str = "torch"

    def __init__(
        self,
        network: Network,
        labels: WordTree,
        config: Config,
        *,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        self.device = choose_device(device)
        self.precision: str = choose_precision(precision, self.device)
        self.memory_format = choose_memory_format(config.train.channels_last, self.device)
        self.network = network.to(self.device, memory_format=self.memory_format).eval()  # type: ignore[call-overload]
        self.labels, self.size_wh = labels, config.data.size
        self.codec = build_codec(config.model, self.network)
        self.softmax = build_scores(config.model, labels).to(self.device)
        self.network.check_size(self.size_wh)
        # Here, where no other thread has the network yet: the estimate replaces its parameters for a moment.
        self._memory_limit = MemoryLimit(network, self.size_wh, self.device, self.precision, network.features)

    def cast_weights(self) -> None:
        """Cast the weights that autocast would cast in each pass; the head, which runs in float32, stays as it is."""
        if self.precision != "float32":
            cast_convolutions(self.network, DTYPES[self.precision])

    def fit_batch(self, batch: int) -> int:
        """See `Engine`."""
        return self._memory_limit.fit(batch)

    def class_decoder(self, options: DecoderOptions) -> ClassDecoder:
        """See `Engine` and `Detector.class_decoder`."""
        if self.labels.is_flat:
            return MultiLabel(self.labels, self.softmax.kind, self.device)
        if options.leaves_only:
            nodes = self.labels.with_descendants(options.under) if options.under else range(len(self.labels))
            return BestLabel(self.labels, self.device, [node for node in nodes if self.labels.leaves[node]])
        return HierarchicalDescent(self.labels, self.softmax, options.hier_thresh, options.rule, options.under)

    def multi_label_decoder(self, nodes: Sequence[int]) -> ClassDecoder:
        """See `Engine`."""
        return MultiLabel(self.labels, self.softmax.kind, self.device, nodes)

    @torch.inference_mode()
    def detect(self, images: np.ndarray, requests: Sequence[Request]) -> list[DetectedRows]:
        """See `Engine`; the network runs once for all requests."""
        batch = torch.from_numpy(images)
        with explain_large_batch(self.device, batch):
            with autocast(self.device, self.precision):
                features = self.network.features(to_network_input(batch, self.device, self.memory_format))
            # The head runs in float32: it costs little, and bf16 would quantise the scores coarsely.
            features = features.float()
            return [self._decode(features, request) for request in requests]

    def _decode(self, features: torch.Tensor, request: Request) -> DetectedRows:
        thresholds, decoder = request.thresholds, request.class_decoder
        boxes = find_candidates(self.network.head, features, self.codec, self.size_wh, decoder, thresholds.conf)
        if request.nodes:
            boxes = boxes[torch.isin(boxes.label, torch.tensor(request.nodes, device=self.device))]
        return _to_numpy(suppress(boxes, thresholds, spans=decoder.spans))


def _to_numpy(boxes: Candidates) -> DetectedRows:
    xyxy, score = (values.float().cpu().numpy() for values in (boxes.xyxy, boxes.score))
    path = None if boxes.path is None else boxes.path.cpu().numpy()
    return DetectedRows(boxes.image_index.cpu().numpy(), xyxy, score, boxes.label.cpu().numpy(), path)
