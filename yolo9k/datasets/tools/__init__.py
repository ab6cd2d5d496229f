"""Tools for whole data sets: check, preview, plot, cut crops, write tar shards, download, coverage of a label tree."""
