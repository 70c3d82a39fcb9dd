"""Small real inputs that several tests share: a synthetic data set and records built from it, made once per session."""

from pathlib import Path

import pytest
from pipeline_data import build_config

from pipeline.build import build
from pipeline.synthetic import synthesize
from pipeline.synthetic.synthesize import SynthesizeConfig


@pytest.fixture(scope="session")
def people(tmp_path_factory) -> Path:
    """24 images of 320 x 240: people/annotations/person_keypoints_train2017.json and people/train2017. Not to be changed."""
    folder = tmp_path_factory.mktemp("synthetic") / "people"
    synthesize.run(SynthesizeConfig(out=folder, num_images=24, seed=5, width=320, height=240, jobs=1))
    return folder


@pytest.fixture(scope="session")
def annotations(people) -> Path:
    return people / "annotations" / "person_keypoints_train2017.json"


@pytest.fixture(scope="session")
def records(people, tmp_path_factory) -> Path:
    """A built record set of `people`. Not to be changed: copy it first."""
    out = tmp_path_factory.mktemp("built") / "records"
    build.run(build_config(people, out))
    return out
