"""Build a network from a cfg, with Darknet's layer numbering (Darknet `parser.c`, `network.c`)."""

from pathlib import Path

import torch
from torch import Tensor, nn

from yolo9k.darknet.cfg import Cfg, Section
from yolo9k.darknet.layers import MAX_PARAMETERS, DarknetNorm, HeadSize, Layer, Shape, Softmax, build_layer
from yolo9k.darknet.region import Region
from yolo9k.darknet.weights import LoadResult, conv_layers, read_weights
from yolo9k.errors import ConfigError, WeightsError
from yolo9k.models.head import AnchorHead, RawMap
from yolo9k.models.layers import initialise
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.softmax import HierarchicalSoftmax

MAX_LIVE = (
    1 << 30
)  # values of the layers that are in memory at once for one image: 4 GiB; at 4096 pixels, YOLOv2 has half
MAX_OPERATIONS = 10**13  # multiplications for one image: 300 times those of YOLOv2 at 608 pixels
MAX_BOXES = 1 << 22  # of one image: YOLOv2 has 327,680 at 8192 pixels
OUTPUT_LAYERS = ("region", "softmax", "cost")  # at the end of a cfg: a forward pass returns their input


class DarknetNetwork(nn.Module):
    """The network of a cfg. Its convolutions are uninitialised memory until `initialise` or `read` is called.

    `labels`: the class names or tree, required for the outputs of a region or softmax with a tree. `anchors` (A, 2):
    widths and heights in cells of the last feature map. `sources`: input layers of each layer (-1: the image).
    `shapes`: output shape of each layer. `origin`: the header and layer count of the weights file; `None`: fresh
    weights. Raises `WeightsError` with file and line if the layers of the cfg do not fit together.
    """

    anchors: Tensor

    def __init__(self, cfg: Cfg, labels: WordTree | None = None) -> None:
        super().__init__()
        self.cfg, self.labels = cfg, labels
        self.origin: LoadResult | None = None
        region_index = _region_index(cfg)
        self.region = Region(cfg.layers[region_index]) if region_index is not None else None
        self.end = _output_index(cfg)
        layers = self._build(cfg.size_wh)
        self.sources = [layer.sources for layer in layers]
        self.shapes = [layer.shape for layer in layers]
        if region_index is not None:
            self._check_region(region_index)
        self._check_classifier_labels()
        self.layers = nn.ModuleList(layer.module for layer in layers).to_empty(device="cpu")
        self._reset_norms()
        anchors = self.region.anchors if self.region else torch.empty(0, 2)
        self.register_buffer("anchors", anchors, persistent=False)
        # The last layer that reads each layer: after it the output is freed.
        self.last_reader = {source: index for index, inputs in enumerate(self.sources) for source in inputs}
        self.frozen_until = _last_stop_backward(cfg, self.end)

    def _build(self, size_wh: tuple[int, int]) -> list[Layer]:
        """Build the layers for an image size on the meta device: no memory, and no random draws to be overwritten."""
        shapes = [Shape(self.cfg.net.values["channels"], size_wh[1], size_wh[0], 1)]
        layers: list[Layer] = []
        parameters = operations = 0
        with torch.device("meta"):
            for index, section in enumerate(self.cfg.layers):
                is_head = self.region is not None and index + 2 == len(self.cfg.layers)
                layer = build_layer(section, index, shapes, self._head_size() if is_head else None)
                layers.append(layer)
                shapes.append(layer.shape)
                own = sum(value.numel() for value in layer.module.state_dict().values())
                parameters, operations = parameters + own, operations + own * layer.shape.h * layer.shape.w
                _check_limit(section, "parameters", parameters, MAX_PARAMETERS)
                _check_limit(section, "operations", operations, MAX_OPERATIONS)
                _check_limit(section, "values in its output", layer.shape.size, MAX_LIVE)
                if is_head:
                    _check_limit(section, "boxes", layer.shape.h * layer.shape.w * self._head_size()[0], MAX_BOXES)
        self._check_memory(layers)
        return layers

    def _check_memory(self, layers: list[Layer]) -> None:
        """Raise `WeightsError` if the outputs that a forward pass holds at once do not fit into memory."""
        last_reader = {source: index for index, layer in enumerate(layers) for source in layer.sources}
        live = 0
        for index, (layer, section) in enumerate(zip(layers, self.cfg.layers, strict=True)):
            live += layer.shape.size
            _check_limit(section, "values in memory", live, MAX_LIVE)
            read = {*layer.sources, index}
            live -= sum(layers[i].shape.size for i in read if i >= 0 and last_reader.get(i, -1) <= index)

    def check_size(self, size_wh: tuple[int, int]) -> None:
        """Raise `ConfigError` if the network cannot process images of this size."""
        try:
            self._build(size_wh)
        except WeightsError as error:
            raise ConfigError(f"size {size_wh[0]}x{size_wh[1]}: {error}") from error

    def _head_size(self) -> HeadSize:
        assert self.region is not None
        return len(self.region.anchors), self.region.classes

    def _check_region(self, index: int) -> None:
        """Raise `WeightsError` if the region's input does not have A * (5 + K) channels."""
        before = self.cfg.layers[index - 1] if index else self.cfg.net
        anchors, classes = self._head_size()
        required, channels = anchors * (5 + classes), self.shapes[index - 1].channels if index else 3
        if required != channels:
            raise before.error(
                "filters",
                f"[region] requires {required} channels = {anchors} anchors x (5 + {classes} classes), not {channels}",
            )

    def _check_classifier_labels(self) -> None:
        """Raise `WeightsError` if a softmax has another size than `labels`; a region's are checked when they load."""
        softmax = next((section for section in self.cfg.layers if section.name == "softmax"), None)
        if softmax is not None and self.labels is not None and len(self.labels) != self.shapes[-1].channels:
            raise WeightsError(f"{softmax.location}: {len(self.labels)} labels for {self.shapes[-1].channels} classes")

    @property
    def classes(self) -> int:
        """Number of classes: of the region, else the output channels of the last layer."""
        return self.region.classes if self.region else self.shapes[-1].channels

    @property
    def input_channels(self) -> int:
        """Number of input channels: 3 (RGB) or 1 (grey)."""
        return int(self.cfg.net.values["channels"])

    @property
    def stride(self) -> int:
        """Input pixels per cell of the last feature map."""
        return int(self.shapes[self.end - 1].stride)

    @property
    def head(self) -> AnchorHead | RawMap:
        """The last convolution if it is a plain 1x1 convolution, else a `RawMap` that reads the last feature map."""
        last = self.layers[self.end - 1]
        return last if isinstance(last, AnchorHead) else RawMap(*self._head_size())

    def _require_region(self) -> Region:
        return self.region or Region(self.cfg.region)  # `cfg.region` raises the error

    def features(self, images: Tensor) -> Tensor:
        """Compute the input of `head` from images (B, 3, H, W) in [0, 1]. Raises `WeightsError` without a region."""
        self._require_region()
        end = self.end - 1 if isinstance(self.layers[self.end - 1], AnchorHead) else self.end
        return self._run(images, end)[end - 1]

    def forward(self, images: Tensor) -> Tensor:
        """Compute the input of region (B, A * (5 + K), H', W') or softmax (B, K).

        `images`: (B, 3, H, W) in [0, 1], or (3, H, W) for outputs without a batch dimension.
        """
        if images.dim() == 3:
            return self(images[None])[0]
        raw = self._run(images, self.end)[self.end - 1]
        is_classifier = self.end < len(self.layers) and self.cfg.layers[self.end].name != "region"
        return raw.flatten(1) if is_classifier else raw

    def layer_outputs(self, images: Tensor) -> list[Tensor]:
        """Compute the output of every layer in Darknet's numbering, including region and softmax.

        `images`: (B, 3, H, W) in [0, 1], or (3, H, W) for outputs without a batch dimension.
        """
        if images.dim() == 3:
            return [output[0] for output in self.layer_outputs(images[None])]
        outputs = self._run(images, len(self.layers), keep_all=True)
        for index, section in enumerate(self.cfg.layers):
            if section.name == "region":
                outputs[index] = self._require_region().activate(outputs[index], self.scores())
            elif section.name == "softmax" and "tree" in section.values:
                softmax, logits = self.layers[index], outputs[self.sources[index][0]].flatten(1)
                assert isinstance(softmax, Softmax)
                outputs[index] = self.scores().conditional(logits / softmax.temperature).exp()
            elif section.name == "cost":
                outputs[index] = outputs[index - 1]  # the softmax before it may have just been replaced
        return outputs

    def scores(self) -> HierarchicalSoftmax:
        """Return the module that converts class logits to probabilities.

        Raises `WeightsError` without region and softmax, and if the label tree is missing.
        """
        scores = self.region.scores(self.labels) if self.region else self._classifier_scores()
        return scores.to(self.anchors.device)

    def _classifier_scores(self) -> HierarchicalSoftmax:
        section = next((section for section in self.cfg.layers if section.name == "softmax"), None)
        if section is None:
            raise WeightsError(f"{self.cfg.net.source}: no classes; a network needs [region] or [softmax]")
        if "tree" not in section.values:
            return HierarchicalSoftmax(WordTree.flat([str(k) for k in range(self.shapes[-1].channels)]))
        if self.labels is None:
            raise section.error("tree", "file not found; pass the path of the label tree")
        return HierarchicalSoftmax(self.labels)

    def use_norm_rule(self, rule: str) -> None:
        """Select the formula of batch norm at inference: "cudnn" (default) or "cpu", see `DarknetNorm`."""
        for norm in (m for m in self.modules() if isinstance(m, DarknetNorm)):
            norm.rule = rule

    def initialise(self) -> "DarknetNetwork":
        """Initialise the weights of all layers; returns the network."""
        initialise(self)
        self._reset_norms()
        last = self.layers[self.end - 1]
        if isinstance(last, AnchorHead):
            last.initialise()
        return self

    def _reset_norms(self) -> None:
        for norm in (m for m in self.layers.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.reset_parameters()

    def read(self, path: str | Path) -> LoadResult:
        """Load a weights file. If it is partial, the layers after its end are initialised.

        Raises `WeightsError` with the layer that does not fit.
        """
        layers = conv_layers(self)
        loaded = read_weights(path, layers)
        if loaded.layer_count < len(layers):
            self.initialise()
            read_weights(path, layers)
        self.origin = loaded
        return loaded

    def _run(self, images: Tensor, end: int, *, keep_all: bool = False) -> list[Tensor]:
        """Compute the outputs of the layers before `end`; release each after its last use, unless `keep_all`."""
        if images.shape[1] != self.input_channels:
            raise ConfigError(
                f"{self.cfg.net.location} channels={self.input_channels}: the images have {images.shape[1]} channels "
                "(data.channels)"
            )
        outputs: list[Tensor] = []
        released = images.new_empty(0)
        for index in range(end):
            inputs = [images if source < 0 else outputs[source] for source in self.sources[index]]
            with torch.set_grad_enabled(torch.is_grad_enabled() and index > self.frozen_until):
                outputs.append(self.layers[index](*inputs))
            del inputs
            if not keep_all:
                for used in (*self.sources[index], index):
                    if used >= 0 and self.last_reader.get(used, -1) <= index and used != end - 1:
                        outputs[used] = released
        return outputs


def _check_limit(section: Section, what: str, count: int, maximum: int) -> None:
    if count > maximum:
        raise WeightsError(f"{section.location}: too large: {count:,} {what}; at most {maximum:,} are supported")


def _region_index(cfg: Cfg) -> int | None:
    indices = [index for index, section in enumerate(cfg.layers) if section.name == "region"]
    if len(indices) > 1 or (indices and indices[0] != len(cfg.layers) - 1):
        raise WeightsError(f"{cfg.layers[indices[0]].location}: must be the last section and the only [region]")
    return indices[0] if indices else None


def _output_index(cfg: Cfg) -> int:
    """Return the index of the first of the region, softmax and cost layers at the end, or the number of layers."""
    end = len(cfg.layers)
    while end and cfg.layers[end - 1].name in OUTPUT_LAYERS:
        end -= 1
    if not end:
        raise WeightsError(
            f"{cfg.net.source}: a network must have at least one layer before {', '.join(OUTPUT_LAYERS)}"
        )
    for section in cfg.layers[:end]:
        if section.name == "softmax":
            raise WeightsError(f"{section.location}: must be at the end of the network")
    return end


def _last_stop_backward(cfg: Cfg, end: int) -> int:
    """Return the index of the last layer with `stopbackward=1`, where Darknet's backward pass ends; -1: none."""
    return max((i for i, section in enumerate(cfg.layers[:end]) if section.get("stopbackward", False)), default=-1)
