"""A network built from a cfg, layer by layer in Darknet's numbering."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from yolo9k.darknet.cfg import Cfg
from yolo9k.darknet.layers import MAX_NUMBERS, DarknetNorm, Head, Layer, Shape, Softmax, build_layer
from yolo9k.darknet.region import Region
from yolo9k.darknet.weights import Loaded, blocks, read_weights
from yolo9k.errors import ConfigError, WeightsError
from yolo9k.models.head import AnchorHead, RawMap
from yolo9k.models.layers import initialise
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.softmax import HierarchicalSoftmax

ENDS = ("region", "softmax", "cost")  # what a forward pass leaves to losses and decoding


class DarknetNetwork(nn.Module):
    """The network of a cfg; its convolutions hold whatever memory held, until they are initialised or loaded.

    `labels`: what the classes are, needed for the outputs of a region or softmax with a tree. `anchors` (A, 2):
    widths and heights in cells of the last map. Raises `WeightsError` with file and line where the cfg does not fit
    together.
    """

    anchors: Tensor

    def __init__(self, cfg: Cfg, labels: WordTree | None = None) -> None:
        super().__init__()
        self.cfg, self.labels = cfg, labels
        self.origin: Loaded | None = None  # the weights file that filled it
        w, h = cfg.size_wh
        region_at = _region_place(cfg)
        self.region = Region(cfg.layers[region_at]) if region_at is not None else None
        built = self._build((w, h))
        self.sources = [layer.sources for layer in built]
        self.shapes = [layer.shape for layer in built]
        self.stop = _first_end(cfg)
        if region_at is not None:
            self._check_region(region_at)
        self._check_labels()
        self.layers = nn.ModuleList(layer.module for layer in built).to_empty(device="cpu")
        self._reset_norms()
        anchors = self.region.anchors if self.region else torch.empty(0, 2)
        self.register_buffer("anchors", anchors, persistent=False)
        self.last_use = _last_uses(self.sources)
        self.frozen = _frozen(cfg, self.stop)

    def _build(self, size_wh: tuple[int, int]) -> list[Layer]:
        """The layers for images of a size, without memory: nothing is drawn that a weights file would replace."""
        shapes = [Shape(self.cfg.net.values["channels"], size_wh[1], size_wh[0], 1)]
        layers: list[Layer] = []
        numbers = 0
        with torch.device("meta"):
            for number, section in enumerate(self.cfg.layers):
                is_head = self.region is not None and number + 2 == len(self.cfg.layers)
                layers.append(build_layer(section, number, shapes, self._head_sizes() if is_head else None))
                shapes.append(layers[-1].shape)
                numbers += sum(value.numel() for value in layers[-1].module.state_dict().values())
                if numbers > MAX_NUMBERS:
                    raise WeightsError(f"{section.place}: with it the network has {numbers:,} weights, too many")
        return layers

    def check_size(self, size_wh: tuple[int, int]) -> None:
        """Raises `ConfigError` for a size of images that the network cannot take."""
        try:
            self._build(size_wh)
        except WeightsError as error:
            raise ConfigError(f"size {size_wh[0]}x{size_wh[1]}: {error}") from error

    def _head_sizes(self) -> Head:
        assert self.region is not None
        return len(self.region.anchors), self.region.classes

    def _check_region(self, place: int) -> None:
        assert self.region is not None
        before = self.cfg.layers[place - 1] if place else self.cfg.net
        anchors, classes = self._head_sizes()
        needed, found = anchors * (5 + classes), self.shapes[place - 1].channels if place else 3
        if needed != found:
            raise before.error(
                "filters", f"{found} channels reach [region]; {anchors} anchors x (5 + {classes} classes) need {needed}"
            )

    def _check_labels(self) -> None:
        """Of a classifier; the labels of a region are compared where its cfg is read."""
        end = next((section for section in self.cfg.layers if section.name == "softmax"), None)
        if end is not None and self.labels is not None and len(self.labels) != self.shapes[-1].channels:
            values = self.shapes[-1].channels
            raise WeightsError(f"{end.place}: {values} values, but there are {len(self.labels)} labels")

    @property
    def classes(self) -> int:
        """How many it tells apart: those of its region, else the values of its last layer."""
        return self.region.classes if self.region else self.shapes[-1].channels

    @property
    def stride(self) -> int:
        """Pixels of the input between two cells of the last map."""
        stride = self.shapes[self.stop - 1].stride if self.stop else 1
        return int(stride)

    @property
    def head(self) -> AnchorHead | RawMap:
        """What is asked for parts of the last map: the last convolution, or the map itself where that is not one."""
        last = self.layers[self.stop - 1]
        return last if isinstance(last, AnchorHead) else RawMap(*self._head_sizes())

    def _detector(self) -> Region:
        return self.region or Region(self.cfg.region)  # which says what is missing

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to what `head` reads."""
        self._detector()
        stop = self.stop - 1 if isinstance(self.layers[self.stop - 1], AnchorHead) else self.stop
        return self._run(images, stop)[stop - 1]

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) or (3, H, W) in [0, 1] to the input of region (B, A * (5 + K), H', W') or softmax (B, K)."""
        if images.dim() == 3:
            return self(images[None])[0]
        raw = self._run(images, self.stop)[self.stop - 1]
        ends_flat = self.stop < len(self.layers) and self.cfg.layers[self.stop].name != "region"
        return raw.flatten(1) if ends_flat else raw

    def layer_outputs(self, images: Tensor) -> list[Tensor]:
        """The output of every layer, as Darknet numbers them; the last is what region or softmax make of their input.

        (B, 3, H, W) or (3, H, W); outputs have a dimension for the batch where the input has one.
        """
        if images.dim() == 3:
            return [output[0] for output in self.layer_outputs(images[None])]
        outputs = self._run(images, len(self.layers), keep=True)
        for number, section in enumerate(self.cfg.layers):
            if section.name == "region":
                outputs[number] = self._detector().activate(outputs[number], self.scores())
            elif section.name == "softmax" and "tree" in section.values:
                softmax, logits = self.layers[number], outputs[self.sources[number][0]].flatten(1)
                assert isinstance(softmax, Softmax)
                outputs[number] = self.scores().conditional(logits / softmax.temperature).exp()
            elif section.name == "cost":
                outputs[number] = outputs[number - 1]  # which may have been made just now
        return outputs

    def scores(self) -> HierarchicalSoftmax:
        """How the class part becomes probabilities. Raises `WeightsError` where the tree it needs is not here."""
        made = self.region.scores(self.labels) if self.region else self._classifier_scores()
        return made.to(self.anchors.device)

    def _classifier_scores(self) -> HierarchicalSoftmax:
        section = next((section for section in self.cfg.layers if section.name == "softmax"), None)
        if section is None:
            raise WeightsError(f"{self.cfg.net.source}: a network without [region] and [softmax] has no classes")
        if "tree" not in section.values:
            return HierarchicalSoftmax(WordTree.flat([str(k) for k in range(self.shapes[-1].channels)]))
        if self.labels is None:
            raise section.error("tree", f"{section.values['tree']} is not here; say where the tree is")
        return HierarchicalSoftmax(self.labels)

    def use_norm_rule(self, rule: str) -> None:
        """`cudnn` (eps inside the root, the default) or `cpu` (1e-6 outside), for inference."""
        for norm in (m for m in self.modules() if isinstance(m, DarknetNorm)):
            norm.rule = rule

    def initialise(self) -> "DarknetNetwork":
        """Fresh weights for all layers; gives the network back."""
        initialise(self)
        self._reset_norms()
        last = self.layers[self.stop - 1] if self.stop else None
        if isinstance(last, AnchorHead):
            last.initialise()
        return self

    def _reset_norms(self) -> None:
        for norm in (m for m in self.layers.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.reset_parameters()

    def read(self, path: str | Path) -> Loaded:
        """Fill the layers from a weights file; those behind the end of a partial one are fresh. Says what there was.

        Raises `WeightsError` naming the layer that does not fit.
        """
        own = blocks(self)
        loaded = read_weights(path, own)
        if loaded.blocks < len(own):
            self.initialise()
            read_weights(path, own)
        self.origin = loaded
        return loaded

    def _run(self, images: Tensor, stop: int, *, keep: bool = False) -> list[Tensor]:
        """The outputs of layers below `stop`; those that nobody reads any more are let go, unless `keep`."""
        outputs: list[Tensor] = []
        released = images.new_empty(0)
        for number in range(stop):
            sources = [images if source < 0 else outputs[source] for source in self.sources[number]]
            with torch.set_grad_enabled(torch.is_grad_enabled() and number > self.frozen):
                outputs.append(self.layers[number](*sources))
            del sources
            if not keep:
                for done in (*self.sources[number], number):
                    if done >= 0 and self.last_use.get(done, -1) <= number and done != stop - 1:
                        outputs[done] = released
        return outputs


def _region_place(cfg: Cfg) -> int | None:
    places = [number for number, section in enumerate(cfg.layers) if section.name == "region"]
    if len(places) > 1 or (places and places[0] != len(cfg.layers) - 1):
        raise WeightsError(f"{cfg.layers[places[0]].place}: must be the last section, and the only one of its kind")
    return places[0] if places else None


def _first_end(cfg: Cfg) -> int:
    """The number of layers before the region, softmax or cost at the end."""
    stop = len(cfg.layers)
    while stop and cfg.layers[stop - 1].name in ENDS:
        stop -= 1
    if not stop:
        raise WeightsError(f"{cfg.net.source}: a network needs at least one layer that computes something")
    return stop


def _frozen(cfg: Cfg, stop: int) -> int:
    """The last layer with `stopbackward=1`, at which Darknet ends its way back; -1 where there is none."""
    return max((n for n, section in enumerate(cfg.layers[:stop]) if section.get("stopbackward", False)), default=-1)


def _last_uses(sources: Sequence[tuple[int, ...]]) -> dict[int, int]:
    """The last layer that reads each layer."""
    return {source: number for number, read in enumerate(sources) for source in read}
