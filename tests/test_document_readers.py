"""Every reader of documents accepts what hypothesis makes of a valid one, or refuses it with a UserError that names the file."""

import resource

import pytest
from document_fuzz import Damaged, check, damaged, readers
from hypothesis import HealthCheck, given, settings

NUM_EXAMPLES = 60  # tests/studies/document_campaign.py tries more
SLOW = {"config": 15}  # examples of readers that take long
MAX_MEMORY_BYTES = 1 << 30
NAMES = (
    "annotations", "build plan", "calibration", "checkpoint", "config", "evaluation", "exported network", "host status", "image list", "leaderboard",
    "log", "log of validations", "manifest", "metrics", "people", "prediction", "rank table", "results", "settings", "shard header", "skeleton",
    "skipped images", "sources",
)  # fmt: skip


@pytest.fixture(scope="module")
def all_readers(records, tmp_path_factory):
    return readers(tmp_path_factory.mktemp("documents"), records)


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_document_is_accepted_or_refused_by_name(all_readers, tmp_path, name):
    assert set(all_readers) == set(NAMES)
    reader = all_readers[name]
    assert check(reader, tmp_path, Damaged(document=reader.document)) == "", "the document itself is valid"
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @settings(max_examples=SLOW.get(name, NUM_EXAMPLES), derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(document=damaged(reader.document))
    def try_all(document):
        check(reader, tmp_path, document)

    try_all()
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) * 1024 < MAX_MEMORY_BYTES
