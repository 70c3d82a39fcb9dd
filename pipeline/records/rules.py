"""What the counts of a record set mean: images and people by selection rule."""

from typing import Any

from pipeline.datasets.boxes import DERIVED
from pipeline.records.manifest import Manifest


def count_rules(config: dict[str, Any]) -> dict[str, str]:
    """Describe each entry of `Manifest.counts`, in the order in which the rules apply."""
    return {
        "images_in_file": "images in the file",
        "people_without_bbox": f"people and crowds {DERIVED['bbox']}",
        "people_without_area": f"people and crowds {DERIVED['area']}",
        "images_other_license": "images dropped: license not selected",
        "crowds": "crowd regions, ignored in the loss",
        "people_duplicate": "people annotated twice, dropped once",
        "people_unlabeled": "people without labeled joints, ignored in the loss",
        "people_few_joints": f"people with fewer than {config['min_joints']} labeled joints, ignored in the loss",
        "people_small": _small_people(config),
        "people_target": "target people",
        "images_without_target": "images dropped: people, but no target person",
        "images_without_people_dropped": "images dropped: no people",
        "images_without_people_kept": "images without people, kept",
        "images_selected": "images selected",
        "images_skipped": "selected images skipped: unreadable",
    }


def count_lines(manifest: Manifest) -> list[str]:
    """Return the counts of a record set as lines of text, one per rule."""
    rules = count_rules(manifest.config)
    width = max(map(len, rules.values()))
    return [f"  {rule:<{width}}  {manifest.counts.get(name, 0):>9,}" for name, rule in rules.items()]


def _small_people(config: dict[str, Any]) -> str:
    limits = f"area at most {config['min_area_px']:g} px²"
    if config["min_diagonal_px"]:
        limits += f" or diagonal below {config['min_diagonal_px']:g} px"
    return f"people with {limits}, ignored in the loss"
