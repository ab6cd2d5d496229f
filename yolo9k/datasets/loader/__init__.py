"""The training loader: which images make up a step, read and augmented by workers, as batches."""
