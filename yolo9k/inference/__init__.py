"""Run trained detectors and classifiers on images.

- `detector.py`, `classifier.py`: from images to detections and class probabilities
- `sources.py`: which images, and reading them ahead; `resize.py`: fit them to the network
- `engines/`: what runs the network: PyTorch, ONNX Runtime, OpenVINO
"""
