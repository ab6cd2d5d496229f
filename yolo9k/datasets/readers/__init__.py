"""Readers: one module per data set format, from files to checked records."""
