"""`python -m yolo9k` and the command `yolo9k`."""

import signal


def main() -> None:
    """Run the command. Where it does not handle Ctrl-C, while it is loaded and while it exits, Ctrl-C is silent."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from yolo9k.cli import main as run

    run()


if __name__ == "__main__":
    main()
