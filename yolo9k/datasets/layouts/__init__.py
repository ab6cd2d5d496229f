"""The formats that are detected: one file each, and what they share (`layout.py`)."""
