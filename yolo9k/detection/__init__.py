"""From the raw maps of a head to boxes, and to the loss. Only this package uses grid units.

- `head.py`: what is the interface of a detection head? (`models/head.py` implements it)
- `codec.py`: how do raw values become boxes, and boxes targets?
- `assign.py`: which predictions are positive, ignored or negative?
- `loss.py`: box, objectness, class and image-label terms
- `class_decoder.py`: which labels, with which scores, does a box get?
- `postprocess.py`: confidence, NMS and the maximum of detections (`thresholds.py`)
"""
