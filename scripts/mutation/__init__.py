"""Mutation tests: change the code in one place at a time, and look whether a test fails (`scripts/mutants`)."""
