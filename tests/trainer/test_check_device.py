"""`check-device` on a CPU: every check runs, and each way to fail is a line and not the end."""

import json
from pathlib import Path

import pytest
from trainer_data import TINY_OPTIONS

from pipeline.cli import main
from pipeline.errors import UserError
from trainer.__main__ import COMMANDS
from trainer.commands import device_checks
from trainer.commands.check_device_config import CheckDeviceConfig
from trainer.networks.config import NetworkConfig

OPTIONS = ["check-device", "--networks", "small", "--insize", "64", "--batch-size", "2", "--num-steps", "3", "--max-idle", "1"]


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.long
def test_every_check_runs_on_a_cpu_and_a_wrong_result_is_a_failure(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setitem(device_checks.TRAINING_LIMITS, "float32", -1.0)
    path = tmp_path / "check.json"
    assert main("trainer", "", COMMANDS, [*OPTIONS, *TINY_OPTIONS, "--device-target", "CPU", "--json", str(path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["ok", "versions"], ["ok", "operators"], ["FAIL", "training"], ["ok", "throughput"], ["ok", "ranks"],
    ]  # fmt: skip
    assert "in 5 steps (limit -1e+00); if `operators` is ok" in lines[2] and "img/s at batch 2, 64 px, data wait" in lines[3]
    written = json.loads(path.read_text())
    assert not written["ok"] and [result["status"] for result in written["results"]] == [line.split()[0] for line in lines]
    assert list(tmp_path.iterdir()) == [path], "the temporary folder is left"


@pytest.mark.skipif(Path("/dev/davinci_manager").exists(), reason="this machine has an Ascend")
def test_without_the_libraries_of_ascend_the_versions_fail_and_the_rest_is_skipped(capsys, monkeypatch):
    """Also for a dry run, which needs CANN but no device."""
    monkeypatch.setenv("MS_SIMULATION_LEVEL", "1")
    assert main("trainer", "", COMMANDS, [*OPTIONS, "--device-target", "Ascend", "--only", "versions", "ranks"]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("FAIL    versions") and "set_env.sh" in first and "Traceback" not in first
    assert second.startswith("skipped ranks")
    dry_run = ["bench-step", "--preset", "openpose", "--batch-size", "10", "--only", "step", "--device-target", "Ascend"]
    assert main("trainer", "", COMMANDS, dry_run) == 1 and "set_env.sh" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("import os; os.abort()", "was ended by SIGABRT"),
        ("import time; time.sleep(60)", r"did not end within 0\.5 s \(--timeout-seconds\)"),
        ("raise SystemExit('error: no such device')", "exit code 1: .*error: no such device"),
    ],
)
def test_a_process_that_fails_says_how(statement, problem):
    with pytest.raises(UserError, match=problem):
        device_checks._run(
            ["timeit", "-n1", "-r1", statement], CheckDeviceConfig(timeout_seconds=0.5 if "sleep" in statement else 60)
        )


def test_what_cannot_be_compared_is_skipped_with_the_reason(tmp_path, monkeypatch):
    normalized = CheckDeviceConfig(network=NetworkConfig(**CheckDeviceConfig.PRESETS["small"]))
    (outcome,) = device_checks.ranks(normalized, tmp_path)
    assert outcome.status == "skipped" and "batch normalization" in outcome.figure
    monkeypatch.setattr(device_checks, "_num_devices", lambda device: 1)
    (outcome,) = device_checks.ranks(CheckDeviceConfig(), tmp_path)
    assert outcome.line() == f"{'skipped':<8}{'ranks openpose':<26}needs 2 devices, this machine has 1"


def test_a_comparison_without_a_number_fails():
    assert device_checks._compared("x", float("nan"), 1e-3, "of it", "report it").status == "FAIL"
