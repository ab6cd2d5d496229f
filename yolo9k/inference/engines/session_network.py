"""Exported files of the form raw: a session as a network, whose raw map PyTorch decodes."""

import numpy as np
import torch
from torch import Tensor, nn

from yolo9k.errors import ConfigError, WeightsError
from yolo9k.inference.engines.graph_engine import to_input
from yolo9k.inference.engines.session import Session
from yolo9k.models.head import RawMap

SMALLEST = torch.finfo(torch.float32).tiny


class SessionNetwork(nn.Module):
    """A detector (raw map) or classifier (logits) that a session of the form raw computes."""

    anchors: Tensor

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session, info = session, session.info
        self.stride = info.stride
        anchors = torch.tensor(info.anchors, dtype=torch.float32).view(-1, 2)
        self.register_buffer("anchors", anchors, persistent=False)
        self.head = RawMap(len(self.anchors), len(info.labels))

    def check_size(self, size_wh: tuple[int, int]) -> None:
        """Raise `ConfigError` unless the size is that of the file."""
        if size_wh != self.session.info.size_wh:
            raise ConfigError(f"size {size_wh[0]}x{size_wh[1]}: the file has a fixed size")

    def features(self, images: Tensor) -> Tensor:
        """Return the raw map (B, A * (5 + K), H, W) for images (B, C, H, W) in [0, 1]."""
        return self(images)

    def forward(self, images: Tensor) -> Tensor:
        """Return the raw map, or logits (B, K): those of the form probabilities differ by a constant per group."""
        values = to_input(np.ascontiguousarray(images.numpy()), self.session.info.batch)
        output = torch.from_numpy(self.session.run({"image": values})[0][: len(images)])
        per_label = self.head.num_anchors * (5 + self.head.num_labels)
        if output.shape[1] != (per_label if self.session.info.task == "detect" else self.head.num_labels):
            raise WeightsError(f"the exported file has {output.shape[1]} output channels, which its labels do not fit")
        return output.clamp_min(SMALLEST).log() if self.session.info.form == "probabilities" else output
