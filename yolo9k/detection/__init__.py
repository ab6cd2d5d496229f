"""From raw maps to boxes and back: codec, assignment, loss, postprocessing. Grid units live only here."""
