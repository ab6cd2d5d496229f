"""Data sets, from annotation files to batches.

- `load.py`, `joint.py`: load the annotations of a data set, or of the sources of a training
- `readers/`: one file per annotation format
- `autodetect.py`: which format does a folder or file have? `layouts/`: one file per format that is detected
- `class_mapping.py`: which label does a class name stand for?
- `transforms/`: augmentation and resizing, applied to each sample
- `loader/`: which images and input size each step gets, and how workers make batches of them
- `tools/`: check, preview, convert and download data sets
"""
