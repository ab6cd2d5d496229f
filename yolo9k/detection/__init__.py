"""Convert raw maps to boxes and back: codec, assignment, loss, post-processing. Only this package uses grid units."""
