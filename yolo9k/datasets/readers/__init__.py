"""Readers: one module per kind of data set, from files to checked records; shared parts in records, index and tar."""
