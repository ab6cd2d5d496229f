"""The entry points for checks against Darknet: networks, losses and boxes straight from cfgs and files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from torch import Tensor

from yolo9k.darknet.cfg import Cfg, read_cfg
from yolo9k.darknet.label_files import find_labels, find_map
from yolo9k.darknet.network import DarknetNetwork
from yolo9k.darknet.region import DarknetDetections, DarknetLoss, Region, detect_boxes
from yolo9k.darknet.weights import Header, blocks, write_weights

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
    """The network of a cfg, in evaluation mode, with the weights of a file or fresh ones.

    A partial file fills the first layers, `net.origin` says how many; the others are fresh. `tree`: the file that
    the cfg's `tree=` means, looked for beside the cfg if left out. `norm`: Darknet's rule of inference, see
    `DarknetNorm`. The cfg's warnings go to the logger `yolo9k.darknet.cfg`, `strict` makes them errors. Raises
    `WeightsError` with file, line and layer.
    """
    read = cfg if isinstance(cfg, Cfg) else read_cfg(cfg, strict=strict)
    read.log_warnings()
    net = DarknetNetwork(read, find_labels(read, tree, names))
    if weights is None:
        net.initialise()
    else:
        net.read(weights)
    net.use_norm_rule(norm)
    return net.eval()


def save(net: DarknetNetwork, path: AnyPath, header: Header | None = None) -> None:
    """Write the weights of all layers, with the header they came with (a fresh network: version 0.2.0, seen 0).

    Raises `MachineError` where the file cannot be written.
    """
    origin = net.origin.header if net.origin else Header()
    write_weights(path, blocks(net), header or origin)


def region_loss(
    cfg: AnyPath | Cfg, *, tree: AnyPath | None = None, map: AnyPath | Sequence[int] | None = None
) -> DarknetLoss:
    """The loss of a cfg's region section, to be called with (raw map, truths, seen).

    `tree` and `map`: the files that the cfg means, looked for beside it if left out. Raises `WeightsError`.
    """
    read = cfg if isinstance(cfg, Cfg) else read_cfg(cfg)
    region = Region(read.region)
    labels = find_labels(read, tree)
    return DarknetLoss(region, region.scores(labels), find_map(read, region.classes, map))


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
    """The boxes of one raw map as Darknet's `get_network_boxes` gives them, before suppression.

    `image_wh`: the image's size before it was letterboxed to `net_wh` (the cfg's if left out). A map is used only
    where it is given here, as in Darknet. The other arguments are those of `region.detect_boxes`.
    """
    read = cfg if isinstance(cfg, Cfg) else read_cfg(cfg)
    region = Region(read.region)
    scores = region.scores(find_labels(read, tree)).to(raw.device)
    nodes = None if map is None else find_map(read, region.classes, map)
    return detect_boxes(
        region, scores, raw, image_wh, net_wh or read.size_wh,
        thresh=thresh, hier=hier, map=nodes, relative=relative, descent=descent,
    )  # fmt: skip
