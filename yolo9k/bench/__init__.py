"""Benchmarks that users can repeat; ratios compare measurements of one run, since machines vary in speed."""
