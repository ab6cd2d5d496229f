"""Measurements that a user can repeat; always ratios of things measured in one run."""
