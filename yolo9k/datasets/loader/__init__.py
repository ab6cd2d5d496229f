"""Load training batches: the order of images (`sampler`), one sample (`dataset`), batches and workers (`batches`)."""
