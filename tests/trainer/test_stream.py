"""The stream: samples and their order on every rank, and rows that arrive exactly as written."""

import shutil
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipeline_data import read_rows
from trainer_data import make_records

from pipeline.errors import UserError
from pipeline.records.manifest import SHARD_FILE, SHARDS, read_manifest
from trainer.data.config import JitterConfig
from trainer.data.order import BLANK, order
from trainer.data.stream import Stream

counts, batches, worlds = st.integers(1, 80), st.integers(1, 9), st.integers(1, 5)


@given(num_samples=counts, batch_size=batches, world=worlds, seed=st.integers(0, 99), epoch=st.integers(0, 99))
def test_ranks_are_disjoint_cover_the_epoch_and_take_the_same_number_of_steps(num_samples, batch_size, world, seed, epoch):
    orders = [order(num_samples, seed=seed, epoch=epoch, batch_size=batch_size, rank=r, world=world) for r in range(world)]
    seen = np.concatenate([o.ravel() for o in orders])
    assert sorted(seen[seen != BLANK]) == list(range(num_samples))
    assert {o.shape for o in orders} == {(-(-num_samples // (batch_size * world)), batch_size)}
    assert all((o[:-1] != BLANK).all() for o in orders), "only the last step may have blank places"


@given(num_samples=counts, batch_size=batches, world=worlds, position=st.integers(0, 80))
def test_every_split_sees_the_same_samples_per_step_from_any_position(num_samples, batch_size, world, position):
    whole = order(num_samples, seed=1, epoch=2, batch_size=batch_size * world)
    ranks = [order(num_samples, seed=1, epoch=2, batch_size=batch_size, rank=r, world=world) for r in range(world)]
    np.testing.assert_array_equal(np.concatenate(ranks, axis=1), whole)
    step = min(position, len(whole))
    entered = order(
        num_samples, seed=1, epoch=2, batch_size=batch_size * world, position=min(step * batch_size * world, num_samples)
    )
    np.testing.assert_array_equal(entered, whole[step:])


def test_the_order_depends_only_on_seed_and_epoch():
    orders = [order(50, seed=seed, epoch=epoch, batch_size=50).tobytes() for seed in (0, 1) for epoch in (0, 1, 2)]
    assert len(set(orders)) == 6
    assert orders[0] == order(50, seed=0, epoch=0, batch_size=50).tobytes()


def test_invalid_positions_ranks_and_batch_sizes_are_refused():
    for wrong in ({"position": 11}, {"position": -1}, {"rank": 1}, {"batch_size": 0}):
        with pytest.raises(ValueError, match="10 samples"):
            order(10, **{"seed": 0, "epoch": 0, "batch_size": 2, **wrong})


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("data"))


def take(stream: Stream, count: int, *where) -> list:
    iterator = stream.batches(*where)
    taken = [next(iterator) for _ in range(count)]
    iterator.close()
    return taken


def test_an_epoch_reads_every_row_of_its_variant_as_written(records):
    stream = Stream(records, batch_size=4, seed=5)
    manifest, steps = read_manifest(records), stream.steps_per_epoch
    assert stream.num_samples % 4, "this test needs a last batch with blank places"
    for epoch, taken in enumerate(np.array_split(take(stream, 3 * steps), 3)):
        shards = [shard for shard in manifest.shards if shard.variant == epoch % 2]
        rows = {row["image_id"]: row for shard in shards for row in read_rows(records / SHARDS / shard.name)}
        seen = Counter()
        for batch in taken:
            assert batch.epoch == epoch
            for i, image_id in enumerate(batch.image_ids.tolist()):
                seen[image_id] += 1
                if image_id == BLANK:
                    assert batch.mask[i].all()
                    continue
                row = rows[image_id]
                heatmaps, pafs = manifest.format.decode_targets(row["targets"])
                np.testing.assert_array_equal(batch.images[i], manifest.format.decode_image(row["image"]))
                np.testing.assert_array_equal(batch.heatmaps[i], heatmaps)
                np.testing.assert_array_equal(batch.pafs[i], pafs)
                np.testing.assert_array_equal(batch.mask[i], manifest.format.decode_mask(row["mask"]))
        blanks = seen.pop(BLANK)
        assert seen == dict.fromkeys(rows, 1) and blanks == 4 * steps - len(rows)


def test_batches_leave_the_host_quantized(records):
    batch = take(Stream(records, batch_size=3, seed=0), 1)[0]
    assert [a.dtype for a in (batch.images, batch.heatmaps, batch.pafs, batch.mask)] == ["uint8", "uint8", "int8", "uint8"]
    assert (batch.images.shape, batch.heatmaps.shape) == ((3, 64, 64, 3), (3, 19, 8, 8))
    assert (batch.pafs.shape, batch.mask.shape, batch.num_samples) == ((3, 38, 8, 8), (3, 8, 8), 3)


def test_reading_can_start_at_any_position(records):
    stream = Stream(records, batch_size=4, seed=5)
    whole = take(stream, 2 * stream.steps_per_epoch + 1)
    for begin in range(len(whole) - 1):
        done = whole[begin]
        following = take(stream, 1, done.epoch, done.position)[0]
        assert (following.epoch, following.position) == (whole[begin + 1].epoch, whole[begin + 1].position)
        np.testing.assert_array_equal(following.images, whole[begin + 1].images)


def test_the_augmentation_of_a_sample_is_the_same_on_every_rank_and_after_resuming(records):
    def augmented(batches):
        """Return the augmentation by epoch and image id."""
        return {(b.epoch, i): tuple(c) for b in batches for i, c in zip(b.image_ids, b.augmentation, strict=True) if i != BLANK}

    jitter = JitterConfig(mirror=True, color_jitter=0.5)
    whole = take(Stream(records, batch_size=4, seed=5, jitter=jitter), 9)
    ranks = [take(Stream(records, batch_size=2, seed=5, rank=rank, world=2, jitter=jitter), 9) for rank in range(2)]
    assert augmented(whole) == augmented(ranks[0]) | augmented(ranks[1])
    first = whole[0]
    later = take(Stream(records, batch_size=4, seed=5, jitter=jitter), 8, first.epoch, first.position)
    assert augmented(whole[1:]) == augmented(later)
    by_epoch = [{i: c for (epoch, i), c in augmented(whole).items() if epoch == number} for number in (0, 1)]
    assert by_epoch[0].keys() == by_epoch[1].keys() and by_epoch[0] != by_epoch[1]


def test_ranks_share_the_batch_of_a_single_process(records):
    whole = take(Stream(records, batch_size=4, seed=5), 5)
    ranks = [take(Stream(records, batch_size=2, seed=5, rank=rank, world=2), 5) for rank in range(2)]
    for one, *parts in zip(whole, *ranks, strict=True):
        np.testing.assert_array_equal(np.concatenate([part.image_ids for part in parts]), one.image_ids)
        np.testing.assert_array_equal(np.concatenate([part.mask for part in parts]), one.mask)


def test_a_rank_without_samples_gets_a_blank_batch(records):
    batch = take(Stream(records, batch_size=50, seed=0, rank=1, world=2), 1)[0]
    assert batch.num_samples == 0 and batch.mask.all() and batch.images.shape == (50, 64, 64, 3)


@pytest.fixture
def copy(records, tmp_path):
    return shutil.copytree(records, tmp_path / "records")


def test_a_missing_or_truncated_shard_is_reported_before_reading(copy):
    shard = copy / SHARDS / "v001-s00001" / SHARD_FILE
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    with pytest.raises(UserError, match="v001-s00001"):
        Stream(copy, batch_size=2, seed=0)
    shard.unlink()
    with pytest.raises(UserError, match=r"v001-s00001.*missing"):
        Stream(copy, batch_size=2, seed=0)
    (copy / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"manifest\.json"):
        Stream(copy, batch_size=2, seed=0)


def test_a_flipped_bit_in_a_row_is_reported(copy):
    rows = list(read_rows(copy / SHARDS / "v000-s00000"))
    shard = copy / SHARDS / "v000-s00000" / SHARD_FILE
    content = bytearray(shard.read_bytes())
    content[content.index(rows[1]["image"]) + 300] ^= 1
    shard.write_bytes(content)
    stream = Stream(copy, batch_size=2, seed=0)
    with pytest.raises(UserError, match=rf"image {rows[1]['image_id']}, variant 0: CRC32.*pipeline verify"):
        take(stream, stream.steps_per_epoch)
