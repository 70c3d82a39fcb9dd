"""Lint, formatting and types of the code; supported versions of Python; tests that hold however they are started."""

import configparser
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run_module(*args: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *args], capture_output=True, text=True, cwd=ROOT, **options)


@pytest.mark.parametrize("args", [("ruff", "check"), ("ruff", "format", "--check")], ids=" ".join)
def test_ruff_reports_nothing(args):
    done = run_module(*args, "--quiet", "--no-cache", ".")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_mypy_reports_nothing(tmp_path):
    done = run_module("mypy", "--cache-dir", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_ignored_finding_has_a_reason():
    """As in `x = f()  # type: ignore[misc] - reason` and `# noqa: F401 - reason`."""
    comment = re.compile(r"# *(noqa|type: *ignore)")
    with_reason = re.compile(r"# (noqa: \w+|type: ignore\[[\w, -]+\]) +[-#] \w")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for folder in ("pipeline", "trainer", "evaluator", "data_cards")
        for path in (ROOT / folder).rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if comment.search(line) and not with_reason.search(line)
    ]
    assert found == []


def test_supported_versions_agree():
    """setup.cfg, the CI script and the README name the same versions of Python."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    assert settings["options"]["python_requires"] == ">=3.11, <3.13"
    assert "for version in 3.11 3.12;" in (ROOT / ".ci" / "run").read_text()
    readme = (ROOT / "README.md").read_text()
    assert "3.11" in readme and "3.12" in readme and "3.10" not in readme
    assert (3, 11) <= sys.version_info < (3, 13)


def test_ci_finds_the_test_command_in_the_readme():
    command = subprocess.run(["grep", "-m1", "python -m pytest$", ROOT / "README.md"], capture_output=True, text=True).stdout
    assert command.startswith("python3 -m venv .venv && ") and "'.[test]'" in command
    assert subprocess.run(["bash", "-n", ROOT / ".ci" / "run"]).returncode == 0 and os.access(ROOT / ".ci" / "run", os.X_OK)


STUDIES = (
    "coco_size_study",
    "decoder_study",
    "document_campaign",
    "kill_campaign",
    "leftover_campaign",
    "lsp_study",
    "variants_study",
)


@pytest.mark.parametrize("script", STUDIES)
def test_studies_start(script):
    done = subprocess.run(
        [sys.executable, f"tests/studies/{script}.py", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and "usage:" in done.stdout, done.stderr


def test_signals_reach_commands_however_the_tests_are_started():
    """A script starts background jobs with SIGINT ignored, and child processes inherit that."""
    test = "tests/pipeline/test_interrupts.py::test_a_signal_ends_a_command_with_its_code"
    done = run_module(
        *("pytest", "-n", "0", "-p", "no:cacheprovider", test),
        timeout=120,
        preexec_fn=lambda: [signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
    )
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout
