"""A closed or full stdout or stderr ends commands that only print, and no others; no character is too much for an encoding."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.runtime.streams import LastingFile

ROOT = Path(__file__).parents[2]
# Prints before and after it works; prints more than the buffer holds.
JOB = (
    "import sys; from pathlib import Path; from pipeline.cli import guarded, leave\n"
    "def work():\n"
    " print('started', flush=True); print('progress', file=sys.stderr)\n"
    " print('more' * 10000); Path(sys.argv[1]).write_text('done')\n"
    "leave(guarded('prog', work, prints={prints}))"
)
STREAMS = {"closed reader": "{n}> >(true)", "full": "{n}>/dev/full", "closed": "{n}>&-"}


def run_job(redirection: str, path: Path, prints: bool) -> subprocess.CompletedProcess[str]:
    """Run the job in bash; wait for a process substitution to end, so that its pipe has no reader."""
    command = f'exec "$0" -c "$1" "$2" {redirection}'
    if ">(" in redirection:
        command = f'exec {redirection}; sleep 0.2; exec "$0" -c "$1" "$2"'
    words = ["bash", "-c", command, sys.executable, JOB.format(prints=prints), str(path)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("kind", STREAMS)
def test_a_job_outlives_its_streams(tmp_path, kind, number):
    done = run_job(STREAMS[kind].format(n=number), tmp_path / "result", prints=False)
    assert done.returncode == 0 and (tmp_path / "result").read_text() == "done"
    assert (done.stdout, done.stderr) == (("", "progress\n") if number == 1 else ("started\n" + "more" * 10000 + "\n", ""))


@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        ("closed reader", 141, ""),
        ("full", 1, "prog: error: stdout: No space left on device\n"),
        ("closed", 1, "progress\nprog: error: stdout: closed\n"),
    ],
)
def test_a_command_that_only_prints_ends_with_its_stdout(tmp_path, kind, code, message):
    done = run_job(STREAMS[kind].format(n=1), tmp_path / "result", prints=True)
    assert (done.returncode, done.stderr) == (code, message)
    assert (tmp_path / "result").exists() == (kind == "closed")


@pytest.mark.parametrize("number", [1, 2])
def test_a_terminal_that_has_gone_does_not_end_a_job(tmp_path, number):
    terminal, child = os.openpty()
    os.close(terminal)
    streams = {"stdout": child, "stderr": child, ("stderr" if number == 1 else "stdout"): subprocess.PIPE}
    done = subprocess.run([sys.executable, "-c", JOB.format(prints=False), tmp_path / "result"], cwd=ROOT, **streams)
    os.close(child)
    assert done.returncode == 0 and (tmp_path / "result").exists()


@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_characters_that_the_encoding_lacks_are_escaped(environment):
    code = "from pipeline.cli import guarded, leave; leave(guarded('prog', lambda: print('\\u2026', '\\udcff')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, env={**os.environ, **environment})
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\\u2026 \\udcff\n", b"")


def test_files_opened_later_do_not_take_the_place_of_closed_streams(tmp_path):
    code = "import os; from pipeline.cli import guarded, leave; leave(guarded('prog', lambda: os.write(os.open('f', os.O_CREAT | os.O_RDWR), b'x') and os.system('echo text >&2; echo text')))"
    subprocess.run(
        ["bash", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (tmp_path / "f").read_bytes() == b"x"


def test_a_pipe_that_another_program_made_non_blocking_is_waited_for():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    size = 300_000  # more than a pipe holds
    process = subprocess.Popen(
        [sys.executable, "-c", f"import sys, time; time.sleep(0.3); print(len(sys.stdin.buffer.read({size})))"],
        stdin=reader,
        stdout=subprocess.PIPE,
    )
    os.close(reader)
    file = LastingFile(writer, raises=True)
    assert file.write(bytes(size)) == size and file.failure is None
    os.close(writer)
    assert process.communicate()[0] == b"300000\n"
