"""Augment training images and their labels: the `Transform` interface and the transforms of detector and classifier."""
