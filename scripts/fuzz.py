#!/usr/bin/env python3
"""Fuzz a parser of files with atheris, guided by the coverage of its code, beginning with valid files.

    pip install atheris                                   # Linux, and Pythons it has wheels for
    python scripts/fuzz.py darknet-cfg [--seconds 300] [--folder fuzz-darknet-cfg]

Without a name, lists the parsers (tests/fuzz/fuzz_targets.py). An exception other than the documented ones, or ten
seconds for one file, ends the run with an exit code other than 0; the file is then FOLDER/crash-... or
FOLDER/timeout-....
"""

import argparse
import logging
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
MAX_BYTES = 4096  # of a file
MAX_SECONDS_PER_FILE = 10
MAX_MEMORY_MB = 8000


def main() -> None:
    """Fuzz one target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="?")
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="where interesting files stay (default: fuzz-TARGET)")
    options = parser.parse_args()
    sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests" / "fuzz")]
    import atheris

    with atheris.instrument_imports(include=["yolo9k"]):
        from fuzz_targets import TARGETS
    if options.target not in TARGETS:
        raise SystemExit(f"parsers: {', '.join(TARGETS)}")
    logging.disable()  # warnings about odd files
    folder = options.folder or Path(f"fuzz-{options.target}")
    folder.mkdir(parents=True, exist_ok=True)
    for number, example in enumerate(TARGETS[options.target].examples):
        (folder / f"example{number}").write_bytes(example)
    with tempfile.TemporaryDirectory() as temporary:
        read = TARGETS[options.target].prepare(Path(temporary))
        limits = [f"-timeout={MAX_SECONDS_PER_FILE}", f"-rss_limit_mb={MAX_MEMORY_MB}", f"-max_len={MAX_BYTES}"]
        arguments = [sys.argv[0], str(folder), f"-artifact_prefix={folder}/", f"-max_total_time={options.seconds}"]
        atheris.Setup([*arguments, *limits], lambda content: read(content) and None)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
