"""Transforms: what happens to an image and its labels between the reader and the network."""
