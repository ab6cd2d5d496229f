"""Write networks as files for other runtimes: ONNX and OpenVINO.

- `graphs.py`: what a file computes: raw maps, detections or class probabilities
- `operators.py`: the operators of detections that PyTorch's exporter does not know
- `onnx_file.py`: from a graph to an ONNX file; `openvino_file.py`: from that to OpenVINO's
- `parity.py`: does the file compute what PyTorch computes?
"""
