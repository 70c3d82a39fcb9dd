"""The output of `run --shard`: the people of some of the images, for `merge`."""

from collections.abc import Iterable, Sequence
from typing import Any

from evaluator.jobs.config import RunConfig
from evaluator.jobs.partial import EVALUATION, PEOPLE, Found
from pipeline.cli import save_config
from pipeline.datasets.coco_entries import Image
from pipeline.storage.files import file_facts, write_json
from pipeline.storage.folders import new_folder
from pipeline.tolerance import report_unreadable
from pipeline.wording import counted


def publish(config: RunConfig, identity: dict[str, Any], groups: Sequence[Sequence[Image]], found: Found) -> int:
    """Write the output of a shard, and return the exit code. Metrics of a shard would be misleading, so it has none."""
    ids = sorted(image.id for group in groups for image in group)
    with new_folder(config.out, last=EVALUATION) as folder:
        (folder / PEOPLE).write_bytes(found.lines(ids))
        write_json(folder / EVALUATION, {**identity, "people": file_facts(folder / PEOPLE)})
        save_config(config, folder / "config.yaml")
    print(
        f"shard {config.shard}: wrote {counted(len(ids), 'image')} to {config.out}; combine all shards with `python -m evaluator merge`"
    )
    return report(config, [image for group in groups for image in group], found)


def report(config: RunConfig, images: Iterable[Image], found: Found) -> int:
    """Print the unreadable images of a shard, and return the exit code."""
    names = {image.file_name: found.unreadable[image.id] for image in images if image.id in found.unreadable}
    num_images = len(found.people) + len(found.unreadable)
    return report_unreadable(names, "merged as images without predictions", config.tolerance, num_images)
