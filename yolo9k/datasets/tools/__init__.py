"""Offline tools: check and preview a data set, cut crops, write shards, download."""
