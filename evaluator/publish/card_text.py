"""The text of a model card: what the network is, how to use it, its figures, data, training, limits, origin and files."""

import html
import re
from typing import Any

from evaluator.inference.scoring import read_calibration
from evaluator.metrics.figures import FIGURES
from evaluator.publish.card_data import PACKAGE, CardData, front_matter, package_version
from evaluator.publish.measurement import Measurement
from pipeline.records.provenance import Provenance
from pipeline.storage.markdown import code, front_matter_text, plain, table
from pipeline.wording import counted, printable
from trainer.run.history import TrainingRun

METHODS = {
    "openpose": "Cao et al., [Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields](https://arxiv.org/abs/1611.08050), CVPR 2017",
    "openpose-2019": "Cao et al., [OpenPose](https://arxiv.org/abs/1812.08008), TPAMI 2019",
    "lightweight": "Osokin, [Lightweight OpenPose](https://arxiv.org/abs/1811.12004), 2018",
}
# Options of `train` that describe a schedule, as far as the checkpoint has them.
TRAINING_OPTIONS = (
    "batch_size", "accumulate_steps", "optimizer", "lr", "lr_schedule", "lr_gamma", "lr_steps", "lr_warmup_steps",
    "backbone_lr_factor", "neck_lr_factor", "freeze_backbone_steps", "weight_decay", "clip_norm", "ema_decay", "precision",
    "loss_scale", "mirror", "color_jitter", "seed",
)  # fmt: skip
CHECKPOINT, ONNX, MINDIR, EXAMPLE = "model.safetensors", "model.onnx", "model.mindir", "example/find_people.py"
MEANINGS = {
    CHECKPOINT: "weights, without the state of the optimizer; a checkpoint for every command of " + PACKAGE,
    ONNX: "network for ONNX Runtime; skeleton, sizes and decoder settings are in its metadata",
    MINDIR: "network for MindSpore and MindSpore Lite",
    f"{MINDIR}.json": "the same metadata for the MINDIR file",
    "skeleton.yaml": "joints, limbs, mirror pairs and OKS constants: a file for `python -m pipeline build --skeleton`",
    "config.yaml": "options of the training run without paths: a file for `python -m trainer train --config`",
    EXAMPLE: "program that finds people with the ONNX file",
    "SHA256SUMS": "checksums: `sha256sum -c SHA256SUMS`",
}


def card_text(data: CardData) -> str:
    """Return the complete text of README.md."""
    sections = (_summary, _use, _figures, _training_data, _training, _limits, _origin, _files)
    text = front_matter_text(front_matter(data)) + "\n" + "\n\n".join(section(data) for section in sections)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"  # parts of a section may be empty


def _summary(data: CardData) -> str:
    skeleton, architecture = data.skeleton, data.info.network["architecture"]
    pictures = "\n\n".join(f"![{plain(caption)}]({path})\n\n*{plain(caption)}*" for path, caption in data.pictures.items())
    return f"""# {plain(data.name)}

This network finds the {counted(skeleton.num_joints, "joint")} of every person in an image (2D pose estimation, bottom-up). It predicts heatmaps and Part Affinity
Fields, from which a decoder assembles people. Architecture {code(architecture)}: {METHODS.get(architecture, "")}.

| | |
| --- | --- |
| weights | {data.num_weights:,} |
| skeleton | {code(skeleton.name)}: {counted(skeleton.num_joints, "joint")}, {counted(skeleton.num_limbs, "limb")} |
| input | uint8 RGB image of any size; sides are padded to multiples of {data.info.targets["stride_px"]}. Recommended length of the shorter side: {data.insize} px |
| license | {plain(data.terms.name)} |

{pictures}"""


def _use(data: CardData) -> str:
    return f"""## Use

Without MindSpore, with [ONNX Runtime](https://onnxruntime.ai). The program prints the keypoints of every person and draws them:

```
pip install numpy onnxruntime opencv-python-headless
python {EXAMPLE} {ONNX} photo.jpg
```

With {PACKAGE}: find people, measure AP, or train further.

```
python -m evaluator predict --checkpoint {CHECKPOINT} --out found photo.jpg
python -m evaluator run --checkpoint {CHECKPOINT} --annotations annotations.json --images images --out ap
python -m trainer train --config config.yaml --pretrained-model-path {CHECKPOINT} --records records --out run
```

Normalization is part of the network. The ONNX and MINDIR files take uint8 RGB images (batch, height, width, 3) and return `heatmaps`
(batch, {data.skeleton.num_heatmaps}, height / {data.info.targets["stride_px"]}, width / {data.info.targets["stride_px"]}) and `pafs` (batch, {data.skeleton.num_pafs}, …). Joints in the order of the heatmaps: {plain(", ".join(data.skeleton.joints))}."""


def _figures(data: CardData) -> str:
    rows = [
        (plain(m.data_set), f"{m.num_images:,}", *(f"{m.figures[name]:.4f}" if name in m.figures else "–" for name in FIGURES))
        for m in data.measurements
    ]
    notes = "\n".join(f"- {plain(m.data_set)}: {_about(data, m)}" for m in data.measurements)
    return f"""## Figures

Measured with `python -m evaluator run` of {PACKAGE} {package_version()} for exactly these weights: COCO keypoint metrics, 0 to 1. A dash: no person
in the file has this size.

{table(("data set", "images", *FIGURES), rows)}

{notes}"""


def _about(data: CardData, m: Measurement) -> str:
    subset = (
        f"a random subset of {m.num_images:,} of {m.num_images_in_file:,} images" if m.num_images < m.num_images_in_file else ""
    )
    images = subset or f"all {counted(m.num_images, 'image')} of the file"
    settings = ", ".join(f"{code(name)} {_value(value)}" for name, value in m.settings.items())
    warning = (
        "**The network was trained on images of this file: the figures show what it remembers, not what it does on new images.** "
        if data.was_trained_on(m)
        else ""
    )
    return f"{warning}{images}, {counted(m.num_people, 'labeled person')}. Annotation file {code(m.annotations)}, SHA-256 `{m.annotations_sha256}`. Settings: {settings}."


def _training_data(data: CardData) -> str:
    runs = "\n\n".join(_run_data(number, run) for number, run in enumerate(data.history, start=1))
    foreign = (
        "The imported weights were trained by others, see [Origin](#origin-and-license); this card does not know their data."
    )
    return f"""## Training data

{foreign if data.info.origin else ""}

{runs or "No training with " + PACKAGE + "."}"""


def _run_data(number: int, run: TrainingRun) -> str:
    if run.records is None:
        return f"### Training {number}\n\nRecord set `{plain(run.records_digest)}`: an older version trained on it, which did not store more."
    records: Provenance = run.records
    licenses = [(str(entry.id), plain(entry.name), plain(entry.url), f"{entry.num_images:,}") for entry in records.licenses]
    facts = {
        "data set": plain(records.name),
        "annotation file": f"{code(records.annotations)}, SHA-256 `{records.annotations_sha256}`",
        "images": f"{records.num_images:,}",
        "people with labeled keypoints": f"{records.num_people:,}",
        "record set": f"digest `{plain(records.digest)}`",
        "data card of the record set": f"SHA-256 `{records.card_sha256}`" if records.card_sha256 else "none",
    }
    return f"""### Training {number}: {plain(records.name)}

{table(("item", "value"), list(facts.items()))}

Licenses of the images, as the annotation file states them:

{table(("id", "license", "URL", "images"), licenses)}

{_quoted(records.license_notes)}"""


def _training(data: CardData) -> str:
    runs = [(str(n), code(run.preset), f"{run.steps:,}", f"{run.epochs:,}") for n, run in enumerate(data.history, start=1)]
    config = data.info.config
    options = [(code(name), _value(config[name])) for name in TRAINING_OPTIONS if name in config]
    settings = (
        f"Settings of the last training; `config.yaml` has all of them:\n\n{table(('option', 'value'), options)}"
        if options
        else ""
    )
    return f"""## Training

{table(("training", "preset", "steps", "epochs"), runs) if runs else "These weights were imported and not trained further."}

{settings}"""


def _limits(data: CardData) -> str:
    known = {run.records.name: run.records.limitations for run in data.history if run.records and run.records.limitations}
    issues = [f"### Of the data set {plain(name)}\n\n{_quoted(text)}" for name, text in known.items()]
    return f"""## Limits and bias

- The figures hold for the images above and these settings. On other images, such as other cameras, clothes, poses, crowds or people of
  other sizes, accuracy is unknown: measure it on your own images.
- {_score(data)} A person may be missed, and something else may be taken for a person.
- The network finds joints, not identities. It was not examined for differences between groups of people. Do not use it where an error
  can harm somebody, and respect the rights of the people in your images.

{chr(10).join(issues) if issues else "Nothing is known about biases of the training data beyond what its authors state."}"""


def _score(data: CardData) -> str:
    calibration = read_calibration(data.info.calibration, "checkpoint")
    if calibration is None:
        return "`score` of a person is no probability; it only ranks people."
    return (
        f"`score` of a person is the probability that the person is right (OKS at least 0.5), calibrated on "
        f"{counted(calibration.num_images, 'image')}: expected calibration error {calibration.ece_after:.3f} on images that were not "
        "used for fitting, and unknown on other data."
    )


def _quoted(text: str) -> str:
    """Return Markdown of a data card as a part of this one: lower headings, no HTML, no control characters."""
    lines = (html.escape(printable(line), quote=False) for line in text.splitlines())
    return "\n".join(f"#{line}" if line.startswith("#") else line for line in lines)


def _origin(data: CardData) -> str:
    later = ", and trained further" if data.history else ""
    origins = {"The weights were imported": data.info.origin, "The backbone was imported": data.info.backbone_origin}
    parts = [
        f"{what}{later}:\n\n{table(('item', 'value'), [(plain(name), plain(value)) for name, value in origin.items()])}"
        for what, origin in origins.items()
        if origin
    ]
    is_known = all(run.records for run in data.history)
    start = "from random values" if is_known else "from weights that an older version did not record, or from random values"
    begin = "" if parts else f"All weights were trained with {PACKAGE}, starting {start}."
    joined = "\n\n".join(parts)
    return f"""## Origin and license

The weights are published under: **{plain(data.terms.name)}**.

{begin}

{joined}

The programs in `example/` are part of {PACKAGE}, [Apache License 2.0](https://www.apache.org/licenses/LICENSE-2.0). Each picture is subject to the license of its image."""


def _files(data: CardData) -> str:
    sizes = {name: size for name, size in data.sizes.items() if name in MEANINGS or name in data.pictures}
    modules = {name: size for name, size in data.sizes.items() if name not in sizes}
    rows = [(code(name), _size(size), MEANINGS.get(name, "picture of this card")) for name, size in sizes.items()]
    rows.append((code("example/*/"), _size(sum(modules.values())), f"{counted(len(modules), 'module')} that the program imports"))
    rows.append((code("SHA256SUMS"), "", MEANINGS["SHA256SUMS"]))
    return f"""## Files

{table(("file", "size", "content"), rows)}

Written by `python -m evaluator publish`, {PACKAGE} {package_version()}."""


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.2f} MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:,.1f} KB"


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(map(_value, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return plain(f"{value:g}" if isinstance(value, float) else str(value))
