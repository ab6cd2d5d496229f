"""YOLOv2, its tiny sibling and YOLO9000 (YOLO9000 sections 2, 4; `yolov2.cfg`, `yolov2-tiny.cfg`, `yolo9000.cfg`)."""

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
    """Three 3x3 convolutions; before the last, the features of stride 16 join those of stride 32.

    `darknet`: a 1x1 convolution to 64 channels, then reorg (the released cfg). `paper`: reorg of all channels.
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
        squeezed = max(8, out_channels // 128 * 8)  # 64 of 1024; reorg needs a multiple of 4
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
        """Features at stride 16 and 32 to those of the head, stride 32."""
        deep = self.deepen(coarse)
        if self.passthrough is not None:
            deep = torch.cat([self.passthrough(fine), deep], dim=1)  # Darknet's order: `route layers=-1,-4`
        return self.join(deep)


class TinyNeck(nn.Module):
    """One 3x3 convolution on the coarse features."""

    def __init__(self, channels: tuple[int, int], out_channels: int, norm: NormLayer | None = nn.BatchNorm2d) -> None:
        super().__init__()
        self.join = ConvBlock(channels[1], out_channels, 3, norm=norm)
        self.channels = out_channels

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Features at stride 16 (unused) and 32 to those of the head."""
        return self.join(coarse)


class NoNeck(nn.Module):
    """Nothing between backbone and head."""

    def __init__(self, channels: tuple[int, int]) -> None:
        super().__init__()
        self.channels = channels[1]

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """The features at stride 32; those at stride 16 are unused."""
        return coarse


Neck = PassthroughNeck | TinyNeck | NoNeck


class DetectionNetwork(nn.Module):
    """Backbone, neck and anchor head; `anchors` (A, 2) are widths and heights in cells of `stride` pixels."""

    stride = 32
    anchors: Tensor

    def __init__(self, backbone: Backbone, neck: Neck, anchors: Tensor, num_labels: int) -> None:
        super().__init__()
        self.backbone, self.neck = backbone, neck
        self.head = AnchorHead(neck.channels, len(anchors), num_labels)
        self.register_buffer("anchors", anchors.float(), persistent=False)
        self.head.initialise()

    def check_size(self, size_wh: tuple[int, int]) -> None:
        """Raises `ConfigError` for a size of images that the network cannot take."""
        if any(side < self.stride or side % self.stride for side in size_wh):
            raise ConfigError(f"size {size_wh[0]}x{size_wh[1]}: must be multiples of {self.stride}")

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to the head's input (B, C, H / 32, W / 32)."""
        return self.neck(*self.backbone(images))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to the whole raw map (B, A * (5 + K), H / 32, W / 32)."""
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
    """YOLOv2; `norm` makes the norms, as of a `ConvBlock`; `backbone`: another than Darknet-19."""
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
    """YOLO9000: the head, made for thousands of labels, reads the backbone itself (`yolo9000.cfg`)."""
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
    """Tiny YOLOv2; its last 3x3 convolution has 512 channels (`yolov2-tiny.cfg`) or 1024 (`-voc`)."""
    backbone = backbone or TinyBackbone(width, norm)
    return DetectionNetwork(backbone, TinyNeck(backbone.channels, scaled(last, width), norm), anchors, num_labels)
