"""The backbones Darknet-19 (YOLO9000 section 3, table 6; `darknet19.cfg`) and tiny YOLOv2, and the classifier."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from yolo9k.models.layers import ConvBlock, MaxPool, initialise, scaled
from yolo9k.models.norms import NormLayer
from yolo9k.models.torchvision_backbone import TorchvisionBackbone

StageTable = tuple[tuple[tuple[int, int], ...], ...]

# (channels, kernel) of each `[convolutional]` section; between the rows is a `[maxpool]` of size 2, stride 2
DARKNET19: StageTable = (
    ((32, 3),),
    ((64, 3),),
    ((128, 3), (64, 1), (128, 3)),
    ((256, 3), (128, 1), (256, 3)),
    ((512, 3), (256, 1), (512, 3), (256, 1), (512, 3)),
    ((1024, 3), (512, 1), (1024, 3), (512, 1), (1024, 3)),
)
TINY: StageTable = (((16, 3),), ((32, 3),), ((64, 3),), ((128, 3),), ((256, 3),), ((512, 3),))
TINY_LAST = 1024  # channels of the 3x3 convolution after the `[maxpool]` of size 2, stride 1


class Darknet19(nn.Module):
    """Layers 0 to 22 of `darknet19.cfg` and `yolov2.cfg`: 18 convolutions and 5 max pools.

    `fine`: layers 0 to 16, up to the source of the passthrough at stride 16. `coarse`: layers 17 to 22, to stride 32.
    `channels`: of the features at stride 16 and 32.
    """

    def __init__(self, width: float = 1.0, norm: NormLayer | None = nn.BatchNorm2d) -> None:
        super().__init__()
        stages = list(_stages(DARKNET19, 3, width, norm))
        self.fine = nn.Sequential(*stages[:-1])
        self.coarse = stages[-1]
        self.channels = scaled(512, width), scaled(1024, width)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features at stride 16 and 32 of images (B, 3, H, W)."""
        fine = self.fine(images)
        return fine, self.coarse(fine)


class TinyBackbone(nn.Module):
    """Layers 0 to 12 of `yolov2-tiny.cfg`: seven convolutions and six max pools.

    `fine`: layers 0 to 8, to stride 16. `coarse`: layers 9 to 12, to stride 32. `channels`: of both.
    """

    def __init__(self, width: float = 1.0, norm: NormLayer | None = nn.BatchNorm2d) -> None:
        super().__init__()
        stages = list(_stages(TINY, 3, width, norm))
        self.fine = nn.Sequential(*stages[:-1])
        last = ConvBlock(scaled(512, width), scaled(TINY_LAST, width), 3, norm=norm)
        self.coarse = nn.Sequential(stages[-1], MaxPool(2, 1), last)
        self.channels = scaled(256, width), scaled(TINY_LAST, width)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features at stride 16 and 32 of images (B, 3, H, W)."""
        fine = self.fine(images)
        return fine, self.coarse(fine)


Backbone = Darknet19 | TinyBackbone | TorchvisionBackbone


class Classifier(nn.Module):
    """A backbone with the end of `darknet19.cfg`: a 1x1 `[convolutional]` (layer 23) and `[avgpool]` (layer 24)."""

    def __init__(self, backbone: Backbone, num_labels: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.last = nn.Conv2d(backbone.channels[1], num_labels, 1)
        initialise(self.last)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K) of images (B, 3, H, W), in float32 even under autocast.

        Darknet averages after the last convolution. Averaging before it has the same result, with H x W times less
        computation.
        """
        features = self.backbone(images)[1]
        with torch.autocast(features.device.type, enabled=False):
            return self.last(features.float().mean(dim=(2, 3), keepdim=True)).flatten(1)


def _stages(table: StageTable, in_channels: int, width: float, norm: NormLayer | None) -> Iterator[nn.Sequential]:
    """Yield one stage per row of the table; all but the first start with a max pool."""
    for index, row in enumerate(table):
        layers: list[nn.Module] = [MaxPool(2, 2)] if index else []
        for channels, kernel in row:
            layers.append(ConvBlock(in_channels, scaled(channels, width), kernel, norm=norm))
            in_channels = scaled(channels, width)
        yield nn.Sequential(*layers)
