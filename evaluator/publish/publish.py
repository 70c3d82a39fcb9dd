"""The command `publish`: a folder with everything that others need to use, check and judge a network."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from evaluator.decoding.scores import SelectConfig, select
from evaluator.export import export
from evaluator.export.comparison import Comparison
from evaluator.export.config import ExportConfig
from evaluator.inference.augmentation import image_fields
from evaluator.inference.decoder_options import DecodeOptions
from evaluator.inference.fields import find_people_or_fail
from evaluator.inference.scoring import calibration_of, map_of
from evaluator.publish.card_data import CardData
from evaluator.publish.card_text import CHECKPOINT, MINDIR, ONNX, card_text
from evaluator.publish.config import PublishConfig
from evaluator.publish.example import FOLDER, write_example
from evaluator.publish.measurement import PICTURES, Measurement, read_measurements
from evaluator.publish.terms import Terms, choose_terms
from pipeline.cli import option_types
from pipeline.draw import draw_people, write_picture
from pipeline.errors import UserError
from pipeline.images import UnreadableImage, read_image
from pipeline.storage.files import file_facts, place_file
from pipeline.storage.folders import new_folder, require_usable
from pipeline.wording import counted, printable
from trainer.config import TrainConfig
from trainer.device import DeviceConfig, choose_device
from trainer.networks.config import RUNNING_AVERAGES
from trainer.run.checkpoint import AVERAGE, NETWORK, CheckpointInfo, Tensors, read_path, save_checkpoint
from trainer.run.load import averaged, load_network

if TYPE_CHECKING:
    from trainer.run.load import LoadedNetwork

CARD, SUMS = "README.md", "SHA256SUMS"
OF_THE_RUN = ("resume", "dry_run", "profile")
SHOWN = SelectConfig()  # as `predict` draws by default


def run(config: PublishConfig) -> int:
    """Run the command. Raises UserError for evaluations of other weights, an unclear license, and an output folder in use."""
    require_usable(config.out)
    export.require_onnx()
    path, info, tensors, faults = read_path(config.checkpoint)
    for fault in faults:
        print(printable(f"skipped {fault}"))
    terms = choose_terms(config.license, info)
    has_averages = any(name.startswith(AVERAGE) for name in tensors)
    # Calibration changes no weight and no metric: an evaluation before it counts, too.
    same_weights = [file_facts(path)["sha256"], *([info.calibration["checkpoint"]] if info.calibration.get("checkpoint") else [])]
    measurements = read_measurements(config.evaluation, path, same_weights, has_averages=has_averages)
    if not config.images and not any(measurement.pictures for measurement in measurements):
        raise UserError("the evaluations have no pictures; pass photos with --images, or evaluate again with --pictures 8")
    weights = {name: tensor for name, tensor in averaged(tensors).items() if name.startswith(NETWORK)}
    what = "averaged weights" if has_averages else "weights"
    print(f"{path}: step {info.step:,}, {what}; license {terms.name}", flush=True)
    if info.origin and info.origin.get("license", "").lower() != terms.name.lower():
        print(printable(f"note: the license of the imported weights is {info.origin.get('license', 'unknown')}"), flush=True)
    with new_folder(config.out, last=CARD) as folder:
        sizes = _write(folder, config, dataclasses.replace(info, config=_without_paths(info)), weights, terms, measurements)
    print(f"wrote {config.out}: {counted(len(sizes), 'file')}, {sum(sizes.values()) / 1e6:,.1f} MB; read {CARD} first")
    return 0


def _without_paths(info: CheckpointInfo) -> dict[str, Any]:
    """Return the options of the training run without files and folders of the user, and without how it was started."""
    paths = {name for name, kind in option_types(TrainConfig).items() if "Path" in str(kind)}
    return {name: value for name, value in info.config.items() if name not in paths and name not in OF_THE_RUN}


def _write(
    folder: Path, config: PublishConfig, info: CheckpointInfo, weights: Tensors, terms: Terms, measurements: list[Measurement]
) -> dict[str, int]:
    """Write all files; return their sizes. info: without paths."""
    device = choose_device(DeviceConfig(device_target="CPU"))
    save_checkpoint(folder / CHECKPOINT, info, weights, then="run the command again")
    _write_yaml(folder / "skeleton.yaml", info.skeleton)
    _write_yaml(folder / "config.yaml", info.config | info.network)
    network = load_network(folder / CHECKPOINT)
    # The exports recommend the size with which the figures were measured.
    network.insize = measurements[0].inference.insize or network.insize
    decoding = DecodeOptions(**vars(measurements[0].decoding))
    for export_config in (
        ExportConfig(checkpoint=folder / CHECKPOINT, format="ONNX", out=folder / ONNX, decoding=decoding),
        ExportConfig(checkpoint=folder / CHECKPOINT, format="MINDIR", out=folder / MINDIR, decoding=decoding),
    ):
        export.write(Comparison(network=network, config=export_config, device=device))
    write_example(folder / FOLDER)
    pictures = write_pictures(folder, config, measurements, network)
    data = CardData(
        name=config.name or config.out.resolve().name, terms=terms, info=info, skeleton=network.skeleton,
        num_weights=sum(t.size for name, t in weights.items() if not name.endswith(RUNNING_AVERAGES)),
        insize=network.insize, measurements=measurements, sizes=_sizes(folder), pictures=pictures,
    )  # fmt: skip
    (folder / CARD).write_text(card_text(data), encoding="utf-8")
    sums = "".join(f"{file_facts(folder / name)['sha256']}  {name}\n" for name in _sizes(folder))
    (folder / SUMS).write_text(sums, encoding="utf-8")
    return _sizes(folder)


def _write_yaml(path: Path, content: dict[str, Any]) -> None:
    # Through JSON, because YAML has no plain form for tuples.
    content = json.loads(json.dumps(content))
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
    path.write_text(text, encoding="utf-8")


def write_pictures(
    folder: Path, config: PublishConfig, measurements: list[Measurement], network: "LoadedNetwork"
) -> dict[str, str]:
    """Write the pictures of the card; return their captions by path."""
    (folder / PICTURES).mkdir()
    if not config.images:
        chosen = next(measurement for measurement in measurements if measurement.pictures)
        captions = {}
        for kind, source in zip(("best", "worst"), chosen.pictures, strict=False):
            place_file(source, folder / PICTURES / f"{kind}.jpg", "copy")
            captions[f"{PICTURES}/{kind}.jpg"] = (
                f"The {kind} image of {chosen.data_set} by OKS: prediction on the left, ground truth on the right"
            )
        return captions
    return _draw(folder, config, measurements[0], network)


def _draw(folder: Path, config: PublishConfig, measurement: Measurement, network: "LoadedNetwork") -> dict[str, str]:
    """Find and draw the people in --images, with the settings of an evaluation."""
    captions = {}
    for number, path in enumerate(config.images, start=1):
        try:
            image = read_image(path)
        except UnreadableImage as error:
            raise UserError(f"--images {path}: {error}") from error
        fields = image_fields(network, image, measurement.inference)
        people = find_people_or_fail(fields, network.skeleton, measurement.decoding, str(path))
        name = f"{PICTURES}/photo-{number}.jpg"
        scores = map_of(calibration_of(network), network.skeleton)(people.scores)
        shown = people.keypoints[select(people.keypoints, scores, SHOWN)]
        write_picture(folder / name, draw_people(image, shown, network.skeleton))
        captions[name] = f"{counted(len(shown), 'person')} found with a score of at least {SHOWN.min_score:g}"
    return captions


def _sizes(folder: Path) -> dict[str, int]:
    """Return the size in bytes of every file by its path in the folder."""
    return {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}
