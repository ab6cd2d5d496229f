"""Load and save networks, compute losses and detections from cfgs and weights files, as Darknet does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from torch import Tensor

from yolo9k.darknet.cfg import Cfg, read_cfg
from yolo9k.darknet.label_files import load_labels, load_map
from yolo9k.darknet.loss import DarknetLoss
from yolo9k.darknet.network import DarknetNetwork
from yolo9k.darknet.region import DarknetDetections, Region, detect_boxes
from yolo9k.darknet.weights import Header, conv_layers, write_weights

AnyPath = str | Path


def load(
    cfg: AnyPath | Cfg,
    weights: AnyPath | None = None,
    *,
    tree: AnyPath | None = None,
    names: AnyPath | None = None,
    norm: Literal["cudnn", "cpu"] = "cudnn",
    strict: bool = False,
) -> DarknetNetwork:
    """Build the network of a cfg in evaluation mode and load its weights (`network.c: load_network`).

    `weights`: `None` for fresh weights; a partial file fills the first layers (`net.origin` has their count), the
    others are fresh. `tree`: the label tree of a cfg with `tree=` (default: searched next to the cfg). `names`: class
    names. `norm`: the formula of batch norm at inference, see `DarknetNorm`. Warnings about the cfg are logged by
    `yolo9k.darknet.cfg`; with `strict` they are errors. Raises `WeightsError` with file, line and layer.
    """
    parsed = _parse(cfg, strict=strict)
    parsed.log_warnings()
    net = DarknetNetwork(parsed, load_labels(parsed, tree, names))
    if weights is None:
        net.initialise()
    else:
        net.read(weights)
    net.use_norm_rule(norm)
    return net.eval()


def save(net: DarknetNetwork, path: AnyPath, header: Header | None = None) -> None:
    """Write the weights of all layers to a file (`parser.c: save_weights`).

    `header`: default is the header that was loaded, or version 0.2.0 with seen 0 for fresh weights. Raises
    `MachineError` if the file cannot be written.
    """
    loaded_header = net.origin.header if net.origin else Header()
    write_weights(path, conv_layers(net), header or loaded_header)


def region_loss(
    cfg: AnyPath | Cfg, *, tree: AnyPath | None = None, map: AnyPath | Sequence[int] | None = None
) -> DarknetLoss:
    """Return the loss of a cfg's region (`forward_region_layer`), to be called with (raw, targets, seen).

    `tree`, `map`: the files for the cfg's `tree=` and `map=` (default: searched next to the cfg). Raises
    `WeightsError`.
    """
    parsed = _parse(cfg)
    region = Region(parsed.region)
    labels = load_labels(parsed, tree)
    return DarknetLoss(region, region.scores(labels), load_map(parsed, region.classes, map))


def detections(
    raw: Tensor,
    cfg: AnyPath | Cfg,
    image_wh: tuple[int, int],
    thresh: float = 0.5,
    hier: float = 0.5,
    *,
    net_wh: tuple[int, int] | None = None,
    tree: AnyPath | None = None,
    map: AnyPath | Sequence[int] | None = None,
    relative: bool = True,
    descent: Literal["darknet", "paper"] = "darknet",
) -> DarknetDetections:
    """Decode one image's feature map to boxes, before NMS (`network.c: get_network_boxes`).

    `image_wh`: the image's size before it was letterboxed to `net_wh` (default: the cfg's size). `map`: as in Darknet,
    the cfg's `map=` is ignored; only a map given here is used. The other arguments are those of `region.detect_boxes`.
    """
    parsed = _parse(cfg)
    region = Region(parsed.region)
    scores = region.scores(load_labels(parsed, tree)).to(raw.device)
    nodes = None if map is None else load_map(parsed, region.classes, map)
    return detect_boxes(
        region, scores, raw, image_wh, net_wh or parsed.size_wh,
        thresh=thresh, hier=hier, map=nodes, relative=relative, descent=descent,
    )  # fmt: skip


def _parse(cfg: AnyPath | Cfg, *, strict: bool = False) -> Cfg:
    return cfg if isinstance(cfg, Cfg) else read_cfg(cfg, strict=strict)
