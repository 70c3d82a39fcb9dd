"""Where imported weights come from, as checkpoints and the files of `import` hold it."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from pipeline.storage.files import file_facts
from trainer.weights.layouts.conversion import Source

BACKBONE_FORMAT = "openpose-mindspore backbone"  # in the metadata of a file that `import` wrote
ENTRIES = ("source", "url", "license", "published", "file", "sha256")
MAX_TEXT = 500  # characters of an entry


def origin_of(path: Path, source: Source) -> dict[str, str]:
    """Return the entries of `CheckpointInfo.origin` for the weights of a file that was recognized as `source`.

    Of a backbone that `import` has extracted they are those of the original file.
    """
    stored = _stored(path)
    if stored is not None:
        return stored
    return {
        "source": source.name,
        "url": source.url,
        "license": source.license,
        "published": source.published,
        "file": path.name,
        "sha256": file_facts(path)["sha256"],
    }


def _stored(path: Path) -> dict[str, str] | None:
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError):
        return None
    if metadata.get("format") != BACKBONE_FORMAT or not all(metadata.get(name) for name in ENTRIES):
        return None
    return {name: metadata[name][:MAX_TEXT] for name in ENTRIES}
