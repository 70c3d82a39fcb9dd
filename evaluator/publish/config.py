"""Options of the command `publish`. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class PublishConfig:
    """Write a folder with which others can use a network: weights, ONNX, MINDIR, figures, an example, and a model card.

    The card is that of a Hugging Face model: what the network learned from, under which licenses, its settings and figures, and its
    limits. The evaluations must be those of this checkpoint. The folder contains no optimizer state and no paths of your machine.

    Example: python -m evaluator publish --checkpoint runs/first --evaluation ap --out openpose-first --license apache-2.0
    """

    checkpoint: Path
    """Checkpoint file, or run folder, whose newest checkpoint is used. If it has moving averages of the weights, they are published."""
    evaluation: tuple[Path, ...]
    """Output folders of `run` or `merge` for this checkpoint. The first one decides the decoder settings in the exported files."""
    out: Path
    """Folder to write; absent or empty."""
    license: str | None = None
    """License of the published weights: an identifier such as apache-2.0 or cc-by-nc-4.0, or the name of another license. Default: the
    license of the weights that were imported, if they permit it."""
    name: str | None = None
    """Name of the model in the card. Default: the name of the output folder."""
    images: tuple[Path, ...] = ()
    """Photos to find people in, for the pictures of the card. Default: the best and the worst picture of the first evaluation that
    has pictures."""

    def __post_init__(self) -> None:
        if not self.evaluation:
            raise ValueError("evaluation must be at least one folder of `run` or `merge`, got none")
        for option in ("license", "name"):
            value = getattr(self, option)
            if value is not None and not (value.strip() and value.isprintable() and len(value) <= 200):
                raise ValueError(f"{option} must be 1 to 200 printable characters, got {value!r}")
