"""The command `preview`: pictures of samples, and clear errors for damaged record sets."""

import contextlib
import shutil
import sqlite3

import cv2
import pytest

from pipeline.commands.preview import PreviewConfig
from pipeline.commands.preview import run as preview
from pipeline.errors import UserError


def test_preview_draws_pictures(records, tmp_path):
    assert preview(PreviewConfig(records=records, out=tmp_path / "pictures", num_samples=3)) == 0
    pictures = [cv2.imread(str(path)) for path in (tmp_path / "pictures").iterdir()]
    assert len(pictures) == 3 and all(p.shape[1] >= 4 * 128 and p.std() > 10 for p in pictures)
    with pytest.raises(UserError, match="not an empty folder"):
        preview(PreviewConfig(records=records, out=tmp_path / "pictures"))


@pytest.mark.parametrize("fault", ["row", "index", "shard"])
def test_preview_names_the_damage(records, tmp_path, fault):
    copy, out = tmp_path / "set", tmp_path / "pictures"
    shutil.copytree(records, copy)
    shard = copy / "shards" / "v000-s00000" / "part.mindrecord"
    if fault == "row":
        data = bytearray(shard.read_bytes())
        data[data.find(b"\xff\xd9") - 1] ^= 1
        shard.write_bytes(data)
    elif fault == "index":  # the same size, but fewer rows
        index = shard.with_name("part.mindrecord.db")
        size = index.stat().st_size
        with contextlib.closing(sqlite3.connect(index)) as connection:
            connection.execute("DELETE FROM INDEXES WHERE ROW_ID > 0")
            connection.commit()
        assert index.stat().st_size == size
    else:
        shard.write_bytes(b"0" * shard.stat().st_size)
    with pytest.raises(
        UserError, match=f"{copy}: .*(CRC32|lists 1 row,|not a MindRecord shard).*; run `python -m pipeline verify {copy}`"
    ):
        preview(PreviewConfig(records=copy, out=out, num_samples=1000))
    assert not out.exists()
