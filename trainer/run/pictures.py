"""Pictures of a training: the first samples of the record set, their targets, and what the network finds of them now."""

import contextlib
from pathlib import Path

import cv2

from pipeline.draw import draw_heatmaps, draw_ignore, draw_pafs, label, sheet
from pipeline.errors import UserError
from pipeline.records.codec import DamagedRow, Decoded
from pipeline.records.manifest import SHARDS, Manifest
from pipeline.records.reader import ShardReader
from trainer.networks.config import NetworkConfig
from trainer.networks.cpu_convolution import unfold
from trainer.networks.inference import LastStage, build
from trainer.networks.network import Network
from trainer.run.checkpoint import NETWORK, load_tensors

FOLDER = "pictures"
NUM_SAMPLES = 4
NUM_COLUMNS = 5


class Pictures:
    """Draws a few fixed samples into RUN/pictures/step-XXXXXXXX.jpg: crop, true heatmaps and PAFs, predicted heatmaps and PAFs.

    The network that is drawn is a copy: the one that trains stays in training mode, with its compiled step and its running averages
    untouched, so that a run is the same with pictures and without. Raises UserError for records that cannot be read.
    """

    def __init__(self, folder: Path, records: Path, manifest: Manifest, config: NetworkConfig, *, unfolds: bool) -> None:
        self.folder, self.skeleton, self.stride_px = (
            Path(folder) / FOLDER,
            manifest.format.skeleton,
            manifest.format.targets.stride_px,
        )
        self.samples = first_samples(records, manifest, NUM_SAMPLES)
        self._copy = build(config, self.skeleton)
        if unfolds:
            unfold(self._copy)
        self._last_stage = LastStage(self._copy)

    def path(self, step: int) -> Path:
        """Where the picture of a step belongs."""
        return self.folder / f"step-{step:08d}.jpg"

    def draw(self, network: Network, step: int) -> bytes:
        """The picture of `step`, JPEG, with the weights that `network` has now."""
        tensors = {NETWORK + name: p.asnumpy() for name, p in network.parameters_dict().items()}
        load_tensors(self._copy.parameters_dict(), tensors, prefix=NETWORK, source=self.path(step))
        pictures = []
        for number, sample in enumerate(self.samples):
            heatmaps, pafs = self._last_stage.fields(sample.image[None])
            crop = draw_ignore(sample.image, sample.ignore, self.stride_px)
            pictures += [
                label(crop, f"sample {number}, step {step:,}"),
                label(draw_heatmaps(sample.image, sample.heatmaps, self.skeleton), "true heatmaps"),
                label(draw_pafs(sample.image, sample.pafs, self.skeleton), "true PAFs"),
                label(draw_heatmaps(sample.image, heatmaps[0], self.skeleton), "predicted heatmaps"),
                label(draw_pafs(sample.image, pafs[0], self.skeleton), "predicted PAFs"),
            ]
        picture = cv2.cvtColor(sheet(pictures, NUM_COLUMNS), cv2.COLOR_RGB2BGR)
        return cv2.imencode(".jpg", picture)[1].tobytes()


def first_samples(records: Path, manifest: Manifest, count: int) -> list[Decoded]:
    """The first samples of variant 0, in the order of the shards: the same at every call. Raises UserError for damaged ones."""
    samples: list[Decoded] = []
    for shard in manifest.shards:
        if shard.variant != 0 or not shard.num_rows or len(samples) == count:
            continue
        try:
            with contextlib.closing(ShardReader(Path(records) / SHARDS / shard.name)) as reader:
                rows = [reader.read(number) for number in range(min(len(reader), count - len(samples)))]
            samples += map(manifest.format.decode, rows)
        except (DamagedRow, OSError) as error:
            check = f"`python -m pipeline verify {records}` lists all faults"
            raise UserError(f"record set {records}: {error}; {check}") from error
    return samples
