"""Data sets: readers for Pascal VOC, COCO and YOLO text, checks, and what turns records into batches."""
