"""Darknet-19 (YOLO9000 section 3, table 6; `darknet19.cfg`) and the trunk of tiny YOLOv2."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from yolo9k.models.layers import ConvBlock, MaxPool, initialise, scaled
from yolo9k.models.norms import NormLayer
from yolo9k.models.torchvision_backbone import TorchvisionBackbone

# (channels, kernel) of each convolution; a new row starts after a max pool of stride 2
DARKNET19 = (
    ((32, 3),),
    ((64, 3),),
    ((128, 3), (64, 1), (128, 3)),
    ((256, 3), (128, 1), (256, 3)),
    ((512, 3), (256, 1), (512, 3), (256, 1), (512, 3)),
    ((1024, 3), (512, 1), (1024, 3), (512, 1), (1024, 3)),
)
TINY = (((16, 3),), ((32, 3),), ((64, 3),), ((128, 3),), ((256, 3),), ((512, 3),))
TINY_LAST = 1024  # after a pool of stride 1


class Darknet19(nn.Module):
    """The 18 convolutions before the classifier's last, as a backbone.

    `channels`: of the features at stride 16 (the passthrough's source) and at stride 32.
    """

    def __init__(self, width: float = 1.0, norm: NormLayer | None = nn.BatchNorm2d) -> None:
        super().__init__()
        blocks = list(_stages(DARKNET19, 3, width, norm))
        self.fine = nn.Sequential(*blocks[:-1])
        self.coarse = blocks[-1]
        self.channels = scaled(512, width), scaled(1024, width)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) to features at stride 16 and 32."""
        fine = self.fine(images)
        return fine, self.coarse(fine)


class TinyBackbone(nn.Module):
    """The seven convolutions of tiny YOLOv2 before its head, as a backbone."""

    def __init__(self, width: float = 1.0, norm: NormLayer | None = nn.BatchNorm2d) -> None:
        super().__init__()
        blocks = list(_stages(TINY, 3, width, norm))
        self.fine = nn.Sequential(*blocks[:-1])
        last = ConvBlock(scaled(512, width), scaled(TINY_LAST, width), 3, norm=norm)
        self.coarse = nn.Sequential(blocks[-1], MaxPool(2, 1), last)
        self.channels = scaled(256, width), scaled(TINY_LAST, width)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) to features at stride 16 and 32."""
        fine = self.fine(images)
        return fine, self.coarse(fine)


Backbone = Darknet19 | TinyBackbone | TorchvisionBackbone


class Classifier(nn.Module):
    """A backbone with the classifier's last 1x1 convolution and the average over the image."""

    def __init__(self, backbone: Backbone, num_labels: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.last = nn.Conv2d(backbone.channels[1], num_labels, 1)
        initialise(self.last)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to logits (B, K), in float32 whatever the precision before.

        Darknet averages behind the last convolution; before it the result is the same, for H x W times less work.
        """
        features = self.backbone(images)[1]
        with torch.autocast(features.device.type, enabled=False):
            return self.last(features.float().mean(dim=(2, 3), keepdim=True)).flatten(1)


def _stages(table: Any, in_channels: int, width: float, norm: NormLayer | None) -> Iterator[nn.Sequential]:
    for number, row in enumerate(table):
        layers: list[nn.Module] = [MaxPool(2, 2)] if number else []
        for channels, kernel in row:
            layers.append(ConvBlock(in_channels, scaled(channels, width), kernel, norm=norm))
            in_channels = scaled(channels, width)
        yield nn.Sequential(*layers)
