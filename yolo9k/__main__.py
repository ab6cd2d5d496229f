"""`python -m yolo9k` is the command `yolo9k`."""

from yolo9k.cli import main

main()
