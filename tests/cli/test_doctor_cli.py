import json

import pytest
import typer
from typer.testing import CliRunner

from yolo9k.cli import doctor as module
from yolo9k.errors import MachineError

app = typer.Typer()
app.command()(module.doctor)


def run(*arguments):
    return CliRunner().invoke(app, list(arguments))


def test_this_installation_works():
    result = run("--json", "-")
    assert result.exit_code == 0, result.output
    checks = {check["name"]: check for check in json.loads(result.stdout)}
    assert {"python", "torch", "pycocotools", "nms", "coco metric", "bf16 on cpu", "disk"} <= set(checks)
    assert "broken" not in {check["status"] for check in checks.values()}


def test_a_broken_package_is_reported_with_a_hint_and_exit_code_6(monkeypatch):
    def fails():
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(module, "CHECKS", {"nms": fails})
    monkeypatch.setattr(module, "PACKAGES", {"no-such-package": "no_such_module"})
    result = run()
    assert isinstance(result.exception, MachineError)
    assert str(result.exception) == "doctor: required but broken: no-such-package, nms"
    assert "torchvision::nms does not exist  -> run: pip install" in result.output


@pytest.mark.parametrize("there", [True, False])
def test_data_folder(monkeypatch, tmp_path, there):
    monkeypatch.setenv("YOLO9K_DATA", str(tmp_path if there else tmp_path / "none"))
    assert module._data_folder().status == ("ok" if there else "warning")
