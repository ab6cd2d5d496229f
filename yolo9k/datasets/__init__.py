"""Data sets: readers for each kind, transforms, the loader, and tools that check, convert and download them."""
