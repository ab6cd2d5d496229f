"""The detectors YOLOv2, tiny YOLOv2 and YOLO9000 (`yolov2.cfg`, `yolov2-tiny.cfg`, `yolo9000.cfg`), and their necks.

The paper is YOLO9000: section 2 (YOLOv2) and section 4 (YOLO9000). Layer numbers are those of the cfg files.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from yolo9k.errors import ConfigError
from yolo9k.models.darknet19 import Backbone, Darknet19, TinyBackbone
from yolo9k.models.head import AnchorHead
from yolo9k.models.layers import ConvBlock, Reorg, scaled
from yolo9k.models.norms import NormLayer

Passthrough = Literal["darknet", "paper", "none"]


class PassthroughNeck(nn.Module):
    """Layers 23 to 29 of `yolov2.cfg`: three 3x3 convolutions and the passthrough (section 2, "fine-grained features").

    `deepen`: layers 23 and 24 on the features at stride 32. `passthrough`: `darknet`: layers 26 and 27, a 1x1
    convolution to 64 channels and reorg, as in the released cfg; `paper`: reorg of all channels; `none`: no features
    at stride 16. `join`: layer 29, on the features of both strides (route, layer 28).
    """

    def __init__(
        self,
        channels: tuple[int, int],
        out_channels: int,
        passthrough: Passthrough,
        norm: NormLayer | None = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        fine, coarse = channels
        self.deepen = nn.Sequential(
            ConvBlock(coarse, out_channels, 3, norm=norm), ConvBlock(out_channels, out_channels, 3, norm=norm)
        )
        squeezed = max(8, out_channels // 128 * 8)  # 64 for 1024 channels; reorg needs a multiple of 4
        self.passthrough: nn.Module | None = None
        joined = out_channels
        if passthrough == "darknet":
            self.passthrough = nn.Sequential(ConvBlock(fine, squeezed, 1, norm=norm), Reorg(2))
            joined += 4 * squeezed
        elif passthrough == "paper":
            self.passthrough = Reorg(2)
            joined += 4 * fine
        self.join = ConvBlock(joined, out_channels, 3, norm=norm)
        self.channels = out_channels

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return the head's input, stride 32, from the features at stride 16 and 32."""
        deep = self.deepen(coarse)
        if self.passthrough is not None:
            deep = torch.cat([self.passthrough(fine), deep], dim=1)  # order of `[route] layers=-1,-4`
        return self.join(deep)


class TinyNeck(nn.Module):
    """Layer 13 of `yolov2-tiny.cfg`: one 3x3 convolution on the features at stride 32."""

    def __init__(self, channels: tuple[int, int], out_channels: int, norm: NormLayer | None = nn.BatchNorm2d) -> None:
        super().__init__()
        self.join = ConvBlock(channels[1], out_channels, 3, norm=norm)
        self.channels = out_channels

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return the head's input from the features at stride 32; those at stride 16 are not used."""
        return self.join(coarse)


class NoNeck(nn.Module):
    """No layers between backbone and head, as in `yolo9000.cfg`."""

    def __init__(self, channels: tuple[int, int]) -> None:
        super().__init__()
        self.channels = channels[1]

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return the features at stride 32; those at stride 16 are not used."""
        return coarse


Neck = PassthroughNeck | TinyNeck | NoNeck


class DetectionNetwork(nn.Module):
    """A detector: backbone, neck and anchor head; `anchors` (A, 2): widths and heights in cells of `stride` pixels."""

    stride = 32
    anchors: Tensor

    def __init__(self, backbone: Backbone, neck: Neck, anchors: Tensor, num_labels: int) -> None:
        super().__init__()
        self.backbone, self.neck = backbone, neck
        self.head = AnchorHead(neck.channels, len(anchors), num_labels)
        self.register_buffer("anchors", anchors.float(), persistent=False)
        self.head.initialise()

    def check_size(self, size_wh: tuple[int, int]) -> None:
        """Raise `ConfigError` unless width and height are multiples of the stride."""
        if any(side < self.stride or side % self.stride for side in size_wh):
            raise ConfigError(f"size {size_wh[0]}x{size_wh[1]}: width and height must be multiples of {self.stride}")

    def features(self, images: Tensor) -> Tensor:
        """Return the head's input (B, C, H / 32, W / 32) for images (B, 3, H, W) in [0, 1]."""
        return self.neck(*self.backbone(images))

    def forward(self, images: Tensor) -> Tensor:
        """Return the whole raw map (B, A * (5 + K), H / 32, W / 32) for images (B, 3, H, W) in [0, 1]."""
        return self.head.dense(self.features(images))


def yolov2(
    anchors: Tensor,
    num_labels: int,
    *,
    width: float = 1.0,
    passthrough: Passthrough = "darknet",
    norm: NormLayer | None = nn.BatchNorm2d,
    backbone: Backbone | None = None,
) -> DetectionNetwork:
    """Build YOLOv2 (`yolov2.cfg`).

    `anchors` (A, 2) in cells; `width`: channel multiplier; `norm`: see `ConvBlock`; `backbone`: default Darknet-19.
    """
    backbone = backbone or Darknet19(width, norm)
    neck = PassthroughNeck(backbone.channels, scaled(1024, width), passthrough, norm)
    return DetectionNetwork(backbone, neck, anchors, num_labels)


def yolo9000(
    anchors: Tensor,
    num_labels: int,
    *,
    width: float = 1.0,
    norm: NormLayer | None = nn.BatchNorm2d,
    backbone: Backbone | None = None,
) -> DetectionNetwork:
    """Build YOLO9000 (`yolo9000.cfg`): the head is directly on the backbone. Arguments as in `yolov2`."""
    backbone = backbone or Darknet19(width, norm)
    return DetectionNetwork(backbone, NoNeck(backbone.channels), anchors, num_labels)


def yolov2_tiny(
    anchors: Tensor,
    num_labels: int,
    *,
    width: float = 1.0,
    last: int = 512,
    norm: NormLayer | None = nn.BatchNorm2d,
    backbone: Backbone | None = None,
) -> DetectionNetwork:
    """Build tiny YOLOv2 (`yolov2-tiny.cfg`).

    `last`: channels of the neck, 512 as in `yolov2-tiny.cfg`, or 1024 as in `yolov2-tiny-voc.cfg`. `backbone`: default
    `TinyBackbone`. Other arguments as in `yolov2`.
    """
    backbone = backbone or TinyBackbone(width, norm)
    return DetectionNetwork(backbone, TinyNeck(backbone.channels, scaled(last, width), norm), anchors, num_labels)
