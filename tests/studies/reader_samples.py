"""Convert the samples of other data sets in MMPose's repository, and print what each reader finds.

    git clone https://github.com/open-mmlab/mmpose
    python tests/studies/reader_samples.py mmpose [OUT]

A row per sample: images, people with keypoints, people without, regions to ignore, faults, and the AP of the targets of these people,
decoded (`python -m evaluator oracle`). With OUT, the converted files stay there.
"""

import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path

from evaluator.ceiling.config import OracleConfig
from evaluator.ceiling.oracle import run as oracle
from pipeline.datasets.formats.config import ConvertConfig
from pipeline.datasets.formats.convert import run as convert

SAMPLES = {
    "mpii": ("mpii", "mpii/test_mpii.json", None),
    "aic": ("aic", "aic/test_aic.json", None),
    "crowdpose": ("crowdpose", "crowdpose/test_crowdpose.json", None),
    "ochuman": ("ochuman", "ochuman/test_ochuman.json", None),
    "posetrack18": ("posetrack18", "posetrack18/annotations/val", None),
    "coco-wholebody": ("coco-wholebody", "coco/test_coco_wholebody.json", None),
    "coco-foot": ("coco-foot", "coco/test_coco.json", None),
    "halpe": ("halpe", "halpe/test_halpe.json", "coco"),
    "jhmdb": ("jhmdb", "jhmdb/test_jhmdb_sub1.json", None),
}


def main(mmpose: Path, out: Path) -> None:
    """Print the table."""
    print(f"{'reader':<15} images  people  without  regions  faults     AP")
    for name, (source_format, source, images) in SAMPLES.items():
        data = mmpose / "tests/data"
        folder = out / name
        options = {"source": data / source, "images": data / images if images else None, "ignore_unlabeled": False}
        with contextlib.redirect_stdout(io.StringIO()):
            convert(ConvertConfig(source_format=source_format, out=folder, **options))
            oracle(
                OracleConfig(annotations=folder / "annotations.json", skeleton=folder / "skeleton.yaml", out=folder / "oracle")
            )
        document = json.loads((folder / "annotations.json").read_text())
        people = [entry for entry in document["annotations"] if not entry["iscrowd"]]
        labeled = sum(entry["num_keypoints"] > 0 for entry in people)
        faults = len((folder / "faults.tsv").read_text().splitlines()) - 1
        average = json.loads((folder / "oracle/metrics.json").read_text())["figures"]["AP"]
        counts = (len(document["images"]), labeled, len(people) - labeled, len(document["annotations"]) - len(people), faults)
        print(f"{name:<15}{counts[0]:>7}{counts[1]:>8}{counts[2]:>9}{counts[3]:>9}{counts[4]:>8}{average:>7.3f}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else temporary))
