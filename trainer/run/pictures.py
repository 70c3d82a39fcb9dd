"""Pictures of a training run: the first samples of the record set with ground truth and current predictions."""

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
from trainer.run.checkpoint import NETWORK
from trainer.run.layout import picture_path
from trainer.run.load import load_tensors

NUM_SAMPLES = 4
NUM_COLUMNS = 5


class Pictures:
    """Draws a few fixed samples: crop with ignore mask, ground truth and predictions, in one row per sample.

    Predictions come from a copy of the network. The network in training keeps its mode, its compiled step and its running
    averages, so that a run is the same with and without pictures. Raises UserError for records that cannot be read.
    """

    def __init__(self, folder: Path, records: Path, manifest: Manifest, config: NetworkConfig, *, unfolds: bool) -> None:
        self.folder, self.skeleton = Path(folder), manifest.format.skeleton
        picture_path(self.folder, 0).parent.mkdir(exist_ok=True)
        self.stride_px = manifest.format.targets.stride_px
        self.samples = first_samples(records, manifest, NUM_SAMPLES)
        self._copy = build(config, self.skeleton)
        if unfolds:
            unfold(self._copy)
        self._last_stage = LastStage(self._copy)

    def draw(self, network: Network, step: int) -> bytes:
        """Return the picture of `step` as JPEG, with the current weights of `network`."""
        tensors = {NETWORK + name: p.asnumpy() for name, p in network.parameters_dict().items()}
        load_tensors(self._copy.parameters_dict(), tensors, prefix=NETWORK, source=picture_path(self.folder, step))
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
    """Return the first samples of variant 0 in the order of the shards. Raises UserError for damaged rows."""
    samples: list[Decoded] = []
    for shard in manifest.shards:
        if shard.variant != 0 or not shard.num_rows or len(samples) == count:
            continue
        try:
            with contextlib.closing(ShardReader(Path(records) / SHARDS / shard.name)) as reader:
                rows = [reader.read(number) for number in range(min(len(reader), count - len(samples)))]
            samples += map(manifest.format.decode, rows)
        except (DamagedRow, OSError) as error:
            check = f"run `python -m pipeline verify {records}` to list all faults"
            raise UserError(f"record set {records}: {error}; {check}") from error
    return samples
