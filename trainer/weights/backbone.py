"""Weights of a backbone that was trained on ImageNet, from the original file or from a file of `import`."""

from pathlib import Path

from pipeline.errors import UserError
from trainer.weights import layouts
from trainer.weights.formats import read_weights
from trainer.weights.layouts.conversion import ImportedBackbone


def read_backbone(path: Path, architecture: str, option: str) -> ImportedBackbone:
    """Read the weights of the backbone of `architecture`: VGG19 or VGG16, or MobileNet v1 for lightweight.

    Raises UserError, naming the option and the file, for anything else.
    """
    try:
        found = layouts.convert(read_weights(path).tensors)
    except UserError as error:
        text = str(error) if str(error).startswith(f"{path}:") else f"{path}: {error}"
        raise UserError(f"{option} {text}") from error
    if not isinstance(found, ImportedBackbone):
        raise UserError(
            f"{option} {path}: {found.source.name} is a whole pose network; convert it with `python -m trainer import` and use "
            "--pretrained-model-path"
        )
    if architecture not in found.architectures:
        raise UserError(
            f"{option} {path}: {found.source.name} fits architecture {' and '.join(found.architectures)}, not {architecture}"
        )
    return found
