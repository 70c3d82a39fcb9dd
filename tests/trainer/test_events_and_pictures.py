"""TensorBoard events and pictures of a training run are right and do not affect the run."""

import json
import struct
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pipeline_data import read_rows
from trainer_data import TINY, make_records, train

from pipeline.errors import UserError
from pipeline.records.manifest import SHARDS, read_manifest
from trainer.loop.optimizer import LearningRates
from trainer.networks.inference import build
from trainer.networks.network import initialize
from trainer.run.checkpoint import read_newest
from trainer.run.events import EventWriter
from trainer.run.log import TrainingLog, read_log, scalars
from trainer.run.pictures import NUM_SAMPLES, Pictures, first_samples

RESIDUAL = ["--residual", "--backbone-channels", "4", "4", "4", "4", "4", "--neck-channels", "4", "4"]  # with batch normalization


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("data"))


def read_events(folder: Path) -> list:
    """Return the events of all files in the order of writing. A file is a sequence of: length, its CRC, an Event, its CRC."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    found = []
    for path in folder.iterdir():
        data, offset = path.read_bytes(), 0
        while offset < len(data):
            (length,) = struct.unpack_from("<Q", data, offset)
            found.append(event_pb2.Event.FromString(data[offset + 12 : offset + 12 + length]))
            offset += 12 + length + 4
    return sorted(found, key=lambda event: event.wall_time)


def read_scalars(folder: Path) -> dict[tuple[int, str], float]:
    """Return values by (step, name)."""
    return {(event.step, value.tag): value.simple_value for event in read_events(folder) for value in event.summary.value}


@pytest.mark.long
@pytest.mark.slow
def test_pictures_and_events_change_no_byte_of_the_run(records, tmp_path):
    plain, seen = tmp_path / "plain", tmp_path / "seen"
    assert train(records, plain, "--max-steps", "5", *RESIDUAL) == 0
    assert train(records, seen, "--max-steps", "3", "--picture-interval", "2", "--tensorboard", *RESIDUAL) == 0
    assert train(records, seen, "--max-steps", "5", "--picture-interval", "2", "--tensorboard", "--resume", *RESIDUAL) == 0
    (_, one, first, _), (_, other, second, _) = read_newest(plain), read_newest(seen)
    assert (one.step, one.epoch, one.position) == (other.step, other.epoch, other.position)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        if not name.startswith("log."):  # the interrupted run has one log line more
            assert tensor.tobytes() == second[name].tobytes(), name
    assert {path.name for path in (seen / "pictures").iterdir()} == {"step-00000002.jpg", "step-00000004.jpg"}
    assert not (plain / "pictures").exists() and not (plain / "tensorboard").exists()
    events = read_scalars(seen / "tensorboard")
    logged = {(entry["step"], name): value for entry in read_log(seen) for name, value in scalars(entry).items()}
    assert events == pytest.approx(logged, rel=1e-6) and {step for step, _ in events} == {2, 3, 4, 5}


def test_events_that_a_killed_process_left_are_discarded(tmp_path):
    entry = {"step": 4, "loss": 1.0, "stage_losses": [[0.5, None]], "vgglr": 0.0, "baselr": 0.0, "stagelr": 0.0}
    for done, steps in ((0, (2, 4, 6)), (4, (6, 8))):
        writer = EventWriter(tmp_path, done)
        for step in steps:
            writer.add({**entry, "step": step})
        writer.close()
    found = read_scalars(tmp_path / "tensorboard")
    assert {step for step, _ in found} == {2, 4, 6, 8}, "no file overwrote another"
    assert found[4, "loss/stage1_heatmap"] == 0.5 and (4, "loss/stage1_paf") not in found
    purged = [event.step for event in read_events(tmp_path / "tensorboard") if event.session_log.status]
    assert purged == [5], "steps from 5 on are discarded"


def test_a_missing_extra_is_named(records, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    assert train(records, tmp_path / "run", "--max-steps", "1", "--tensorboard") == 1
    error = capsys.readouterr().err
    assert "[tensorboard]" in error and "Traceback" not in error and not (tmp_path / "run").exists()


def test_the_samples_are_always_the_first_of_variant_0(records):
    manifest = read_manifest(records)
    rows = [row for shard in manifest.shards if shard.variant == 0 for row in read_rows(records / SHARDS / shard.name)]
    for _ in range(2):
        samples = first_samples(records, manifest, NUM_SAMPLES)
        assert len(samples) == NUM_SAMPLES
        for sample, row in zip(samples, rows[:NUM_SAMPLES], strict=True):
            decoded = manifest.format.decode(row)
            assert all(np.array_equal(vars(sample)[name], vars(decoded)[name]) for name in ("image", "heatmaps", "pafs"))
    assert len(first_samples(records, manifest, 10**6)) == len(rows)


def test_a_picture_shows_the_current_weights(records, tmp_path):
    manifest = read_manifest(records)
    network = build(TINY, manifest.format.skeleton)
    initialize(network, np.random.default_rng(0))
    network.set_train()
    before = {name: p.asnumpy().copy() for name, p in network.parameters_dict().items()}
    pictures = Pictures(tmp_path, records, manifest, TINY, unfolds=False)
    first, again = pictures.draw(network, 1), pictures.draw(network, 1)
    assert first == again and network.training
    assert all(np.array_equal(before[name], p.asnumpy()) for name, p in network.parameters_dict().items())
    initialize(network, np.random.default_rng(1))
    for name, p in network.parameters_dict().items():
        if name.startswith("stages"):
            p.set_data(p * 30)
    other = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in (first, pictures.draw(network, 1))]
    column = other[0].shape[1] // 5
    same = 3 * column - 18  # JPEG blocks mix neighboring pixels
    assert np.array_equal(other[0][:, :same], other[1][:, :same]), "crop and ground truth stay"
    assert not np.array_equal(other[0][:, 3 * column :], other[1][:, 3 * column :]), "predictions change"


def test_damaged_records_are_named(records, tmp_path):
    manifest = read_manifest(records)
    with pytest.raises(UserError, match="pipeline verify"):
        first_samples(tmp_path, manifest, 1)


def test_drawing_does_not_count_in_the_speed(tmp_path):
    now = [0.0]
    log = TrainingLog(tmp_path, num_stages=1, clock=lambda: now[0])
    for seconds in (30, 2, 2):
        now[0] += seconds
        log.add(np.ones((1, 2), np.float32), num_samples=8, waited_s=0.5)
    with log.paused():
        now[0] += 1000
    entry = log.write(step=3, epoch=0, steps_left=10, rates=LearningRates(0.0, 0.0, 1e-4))
    assert (entry["imgs_per_sec"], entry["data_wait"], entry["eta_s"]) == (4.0, 0.25, 20.0)
    assert json.loads((tmp_path / "log.jsonl").read_text()) == entry
