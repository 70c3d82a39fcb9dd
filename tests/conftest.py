"""Small real inputs that many tests share, built once per session, and signal handling that does not depend on the caller."""

import signal
from collections import Counter
from pathlib import Path

import pytest
from pipeline_data import build_config

from pipeline.__main__ import build
from pipeline.synthetic import synthesize
from pipeline.synthetic.config import ClipConfig, SynthesizeConfig

# A shell script starts background jobs with SIGINT ignored, and child processes inherit that: Ctrl-C would not reach the
# commands that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files with slow tests first, those with the fewest tests before others: they hold the longest ones.

    A worker runs whole files, so that at the end one waits for the other; small fast files make that short.
    """
    num_tests = Counter(item.path for item in items)
    slow = {item.path for item in items if "slow" in item.keywords}
    items.sort(key=lambda item: (item.path not in slow, num_tests[item.path]))  # stable: the order within a file stays


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 images of 320 x 240: people/annotations/person_keypoints_train2017.json and people/train2017. Do not change them."""
    folder = tmp_path_factory.mktemp("synthetic") / "people"
    synthesize.run(SynthesizeConfig(out=folder, num_images=24, seed=5, width=320, height=240, jobs=1))
    return folder


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 clips of 40 frames, 480 x 360, ten frames per second, laid out like `people`. Do not change them."""
    folder = tmp_path_factory.mktemp("videos") / "clips"
    size = {"width": 480, "height": 360, "jobs": 1}
    synthesize.run(
        SynthesizeConfig(out=folder, video=True, seed=1, clips=ClipConfig(num_clips=8, num_frames=40, fps=10.0), **size)
    )
    return folder


@pytest.fixture(scope="session")
def annotations(people: Path) -> Path:
    return people / "annotations" / "person_keypoints_train2017.json"


@pytest.fixture(scope="session")
def records(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record set built from `people`. Copy it before you change it."""
    out = tmp_path_factory.mktemp("built") / "records"
    build(build_config(people, out))
    return out
