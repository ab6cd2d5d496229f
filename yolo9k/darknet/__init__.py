"""Darknet's cfgs, weights files, image preprocessing and region layer, number for number.

>>> from yolo9k import darknet
>>> net = darknet.load("yolov2.cfg", "yolov2.weights")
>>> raw = net(images)                       # the input of [region]
>>> boxes = darknet.detections(raw[0], net.cfg, (640, 480), thresh=.25)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yolo9k.darknet.api import detections, load, region_loss, save
    from yolo9k.darknet.cfg import Cfg, parse_cfg, read_cfg
    from yolo9k.darknet.images import letterbox, resize
    from yolo9k.darknet.network import DarknetNetwork
    from yolo9k.darknet.region import DarknetDetections, nms_obj, nms_sort
    from yolo9k.darknet.weights import Header

__all__ = [
    "Cfg",
    "DarknetDetections",
    "DarknetNetwork",
    "Header",
    "detections",
    "letterbox",
    "load",
    "nms_obj",
    "nms_sort",
    "parse_cfg",
    "read_cfg",
    "region_loss",
    "resize",
    "save",
]

_MODULES = {
    "api": ("detections", "load", "region_loss", "save"),
    "cfg": ("Cfg", "parse_cfg", "read_cfg"),
    "images": ("letterbox", "resize"),
    "network": ("DarknetNetwork",),
    "region": ("DarknetDetections", "nms_obj", "nms_sort"),
    "weights": ("Header",),
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `darknet.catalogue` does not import torch."""
    from importlib import import_module

    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"yolo9k.darknet.{module}"), name)
    raise AttributeError(f"module 'yolo9k.darknet' has no attribute {name!r}")
