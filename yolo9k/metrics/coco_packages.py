"""Choose the package that computes COCO's metrics, and bound the time of the slower one.

faster-coco-eval is pycocotools in C++, about eight times as fast, and need not be installed.

`COCOeval.evaluateImg` of pycocotools visits all ground truths of a class for each detection and threshold, in Python:
hours for an image with 100,000 boxes of a class. A detection can only be matched with one of the ground truths that it
overlaps most, because each other detection takes at most one; with the others left out it takes seconds.
"""

import logging
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

CocoPackage = Literal["faster-coco-eval", "pycocotools"]

MAX_GROUND_TRUTHS = 1000  # of one class in one image; with more, those that cannot be matched are left out
LOG = logging.getLogger(__name__)


def choose_package() -> CocoPackage:
    """Return faster-coco-eval if it is installed, else pycocotools; with a warning if it is installed but broken."""
    if find_spec("faster_coco_eval") is None:
        return "pycocotools"
    try:
        import faster_coco_eval  # noqa: F401
    except ImportError as error:  # its C++ part may not fit this Python or numpy
        LOG.warning("COCO metrics: faster-coco-eval cannot be imported, so pycocotools is used: %s", error)
        return "pycocotools"
    return "faster-coco-eval"


def coco_evaluation(package: CocoPackage, ground_truth: COCO, detections: COCO) -> Any:
    """Return an evaluation of boxes with the methods of `COCOeval`, which may print."""
    if package == "pycocotools":
        return BoundedCOCOeval(ground_truth, detections, "bbox")
    from faster_coco_eval import COCOeval_faster

    return COCOeval_faster(ground_truth, detections, "bbox", print_function=_print_nothing)


def _print_nothing(*_: object) -> None:
    """Replace what logs by default."""


class BoundedCOCOeval(COCOeval):
    """`COCOeval` with the same results."""

    def evaluateImg(self, imgId: int, catId: int, aRng: list[float], maxDet: int) -> dict[str, Any] | None:
        """Evaluate one class in one image, see `COCOeval`; the ground truths that no detection needs only count."""
        key = imgId, catId
        everyone, ious = self._gts[key], self.ious[key]
        if len(everyone) <= MAX_GROUND_TRUTHS or not len(ious):
            return super().evaluateImg(imgId, catId, aRng, maxDet)
        ignored = np.array([each["ignore"] or not aRng[0] <= each["area"] <= aRng[1] for each in everyone], bool)
        overlapped = ious.max(axis=0) >= min(self.params.iouThrs[0], 1 - 1e-10)  # the lowest threshold, as there
        needed = np.union1d(_closest(ious, overlapped & ~ignored), _closest(ious, overlapped & ignored))
        self._gts[key], self.ious[key] = [everyone[index] for index in needed], ious[:, needed]
        try:
            result = super().evaluateImg(imgId, catId, aRng, maxDet)
        finally:
            self._gts[key], self.ious[key] = everyone, ious
        others = np.delete(ignored, needed)
        result["gtIgnore"] = np.concatenate([result["gtIgnore"], others.astype(int)])
        result["gtMatches"] = np.pad(result["gtMatches"], ((0, 0), (0, len(others))))
        result["gtIds"] += [each["id"] for each in np.delete(np.array(everyone, object), needed)]
        return result


def _closest(ious: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the chosen ground truths that each of D detections overlaps most, D of each; of equal ones the last."""
    index = np.flatnonzero(chosen)[::-1]
    ranked = np.argsort(-ious[:, index], axis=1, kind="stable")[:, : len(ious)]
    return np.unique(index[ranked])
