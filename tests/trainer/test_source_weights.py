"""Records of several sources: how often an epoch shows each image, exact resuming, and channels that teach nothing."""

import dataclasses
import json
from collections import Counter

import mindspore as ms
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from step_runs import Run, batch
from trainer_data import TINY, train

from pipeline.build.build import run as build
from pipeline.build.config import BuildConfig
from pipeline.errors import UserError
from pipeline.samples.targets import TargetConfig
from pipeline.synthetic.config import SynthesizeConfig
from pipeline.synthetic.synthesize import run as synthesize
from trainer.config import TrainConfig
from trainer.data.order import places
from trainer.data.stream import Stream
from trainer.distributed.world import World
from trainer.run import checkpoint


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    seed=st.integers(0, 2**32),
    epoch=st.integers(0, 100),
    data=st.data(),
)
def test_an_epoch_shows_every_image_as_often_as_its_weight_says(counts, seed, epoch, data):
    weights = data.draw(st.lists(st.floats(0.01, 5), min_size=len(counts), max_size=len(counts)))
    found = places(counts, weights, seed=seed, epoch=epoch)
    starts = np.cumsum([0, *counts])
    assert len(found) == sum(round(weight * count) for weight, count in zip(weights, counts, strict=True))
    for number, (count, weight) in enumerate(zip(counts, weights, strict=True)):
        shown = Counter(found[(found >= starts[number]) & (found < starts[number + 1])].tolist())
        times = [shown[sample] for sample in range(starts[number], starts[number + 1])]
        assert max(times) - min(times) <= 1 and sum(times) == round(weight * count)


def test_epochs_show_other_images_of_a_source_with_a_fractional_weight():
    epochs = [places([10, 100], [1, 0.3], seed=4, epoch=epoch) for epoch in range(3)]
    assert all(np.array_equal(epoch[:10], np.arange(10)) and len(epoch) == 40 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    np.testing.assert_array_equal(places([10, 100], [1, 0.3], seed=4, epoch=1), epochs[1])


@pytest.mark.slow
def test_a_channel_that_a_source_does_not_label_gets_no_gradient():
    """Of both images, heatmap 1 and the second limb are unknown: the weights that predict them stay as they are.

    In the last stage: earlier predictions are also inputs of later stages.
    """
    run = Run(TINY, World(), optimizer="momentum")
    run.optimizer.decay = 0  # decay changes every weight
    *parts, labeled = batch()
    unknown = {"heatmaps": [1], "pafs": [2, 3]}
    labeled = labeled.asnumpy()
    labeled[:, [1, 3 + 2, 3 + 3]] = 0
    before = run.values()
    run.take(parts=[[*parts, ms.Tensor(labeled)]])
    after = run.values()
    for branch, channels in unknown.items():
        head = getattr(run.network.stages[-1], branch)[-1]
        for parameter in (head.weight, head.bias):
            changed = (before[parameter.name] != after[parameter.name]).reshape(len(parameter), -1).any(axis=1)
            assert np.flatnonzero(~changed).tolist() == channels


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """16 images of people, and 12 of which only wrists and ankles are labeled, each shown 1.5 times an epoch."""
    folder = tmp_path_factory.mktemp("data")
    joints = ["left_wrist", "right_wrist", "left_ankle", "right_ankle"]
    sources = []
    for name, count in (("whole", 16), ("ends", 12)):
        synthesize(SynthesizeConfig(out=folder / name, num_images=count, seed=count, width=160, height=120, jobs=1))
        sources.append(
            {"name": name, "annotations": f"{name}/annotations/person_keypoints_train2017.json", "images": f"{name}/train2017"}
        )
    path = folder / sources[1]["annotations"]
    document = json.loads(path.read_text())
    (category,) = document["categories"]
    columns = [category["keypoints"].index(joint) for joint in joints]
    category["keypoints"] = joints
    for annotation in document["annotations"]:
        points = np.array(annotation["keypoints"]).reshape(-1, 3)[columns]
        annotation.update(keypoints=points.ravel().tolist(), num_keypoints=int((points[:, 2] > 0).sum()))
    path.write_text(json.dumps(document))
    skeleton = {
        "name": "ends", "joints": [*joints], "source_joints": [*joints], "sigmas": [0.06] * 4,
        "limbs": [["left_wrist", "left_ankle"], ["right_wrist", "right_ankle"]],
        "mirror_pairs": [["left_wrist", "right_wrist"], ["left_ankle", "right_ankle"]],
    }  # fmt: skip
    (folder / "ends.yaml").write_text(yaml.safe_dump(skeleton))
    sources[1] |= {"skeleton": "ends.yaml", "weight": 1.5}
    (folder / "sources.yaml").write_text(yaml.safe_dump({"sources": sources}))
    options = BuildConfig(
        sources=folder / "sources.yaml", out=folder / "records", variants=2, shards=2, jobs=1, targets=TargetConfig(insize=64)
    )
    build(dataclasses.replace(options, people=dataclasses.replace(options.people, min_joints=1, min_area_px=0)))
    return folder / "records"


def shown(stream: Stream, epoch: int) -> list[tuple[int, int]]:
    """Source and image id of every sample of an epoch, in order."""
    found = []
    batches = stream.batches(epoch)
    for part in batches:
        if part.epoch != epoch:
            break
        for image_id, labeled in zip(part.image_ids, part.labeled, strict=True):
            if image_id >= 0:
                source = int(image_id) >> 40
                known = stream.manifest.labeled_channels[source]
                np.testing.assert_array_equal(labeled, known)
                found.append((source, int(image_id)))
            else:
                assert labeled.all()
    batches.close()
    return found


def test_the_stream_follows_the_weights_and_the_trainer_may_change_them(records):
    stream = Stream(records, batch_size=5, seed=0)
    first, second = stream.manifest.images_per_source
    counts = Counter(source for source, _ in shown(stream, 1))
    assert counts == {0: first, 1: round(1.5 * second)} and stream.num_samples == counts.total()
    assert stream.manifest.labeled_channels[0].sum() == 19 + 38 + 2 * 2, "COCO has all joints: both kinds of limbs are known"
    assert stream.manifest.labeled_channels[1].sum() == 4 + 2 * 2, "joints and limbs of the ends, not the background"
    changed = Stream(records, batch_size=5, seed=0, weights={"whole": 2, "ends": 0.5})
    assert Counter(source for source, _ in shown(changed, 0)) == {0: 2 * first, 1: round(0.5 * second)}
    with pytest.raises(UserError, match="has no source 'coco'; its sources are whole, ends"):
        Stream(records, batch_size=5, seed=0, weights={"coco": 1})


@pytest.mark.long
@pytest.mark.slow
def test_a_resumed_run_on_several_sources_ends_with_the_same_bytes(records, tmp_path, capsys):
    options = ("--batch-size", "3", "--source-weights", "whole=0.5", "--ckpt-interval", "100")
    assert train(records, tmp_path / "whole", *options, "--max-steps", "9") == 0
    assert train(records, tmp_path / "parts", *options, "--max-steps", "5") == 0
    assert train(records, tmp_path / "parts", *options, "--max-steps", "9", "--resume") == 0
    whole, parts = (checkpoint.read_newest(tmp_path / name) for name in ("whole", "parts"))
    assert whole.info.position == parts.info.position and whole.tensors.keys() == parts.tensors.keys()
    for name, tensor in whole.tensors.items():
        np.testing.assert_array_equal(tensor, parts.tensors[name])
    capsys.readouterr()
    assert train(records, tmp_path / "parts", "--max-steps", "12", "--resume", "--batch-size", "3") == 1
    assert "the run was started with --source-weights whole=0.5, now off" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["coco", "coco=", "=1", "coco=0", "coco=-1", "coco=1e9", "coco=nan"])
def test_wrong_weights_are_refused(word, tmp_path):
    with pytest.raises(ValueError, match="NAME=WEIGHT"):
        TrainConfig(records=tmp_path, out=tmp_path, source_weights=(word,))
