"""Old names of options: the command runs as with the new name, and one warning on standard error names both."""

import subprocess
import sys

import pytest

from yolo9k import cli
from yolo9k.renamed import OPTIONS

COMMANDS = {  # new option: the command that has it
    "--max-detections": "detect",
    "--box-supervised": "eval",
    "--max-images": "data make shards",
    "--min-side": "data make crops",
    "--max-covered": "data make crops",
}


@pytest.mark.parametrize("old", OPTIONS)
def test_the_new_option_is_used(monkeypatch, capsys, caplog, old):
    new = OPTIONS[old]
    monkeypatch.setattr(sys, "argv", ["yolo9k", *COMMANDS[new].split(), old])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: Option '{new}' requires an argument")
    assert caplog.messages == [f"{old} is now {new}; the old name works up to version 0.2"]


def test_a_command_with_an_old_option_does_its_work(zoo):
    crops = [sys.executable, "-m", "yolo9k", "data", "make", "crops", zoo / "boxes.yaml", "-o", zoo / "crops"]
    done = subprocess.run([*crops, "--smallest", "1"], capture_output=True, text=True, check=True)
    assert done.stderr == "warning: --smallest is now --min-side; the old name works up to version 0.2\n"
    assert "hound" in done.stdout
    assert "is now" not in done.stdout
    assert len(list((zoo / "crops").rglob("*.jpg"))) == 8
