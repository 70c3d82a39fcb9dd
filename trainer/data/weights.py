"""How often an epoch shows the images of each source of a record set."""

from collections.abc import Mapping, Sequence

from pipeline.errors import UserError
from pipeline.records.manifest import Manifest


def source_weights(manifest: Manifest, chosen: Mapping[str, float]) -> list[float]:
    """Return the weight of each source: that of `chosen`, by name, or of the record set. Empty for a single source.

    Raises UserError for a name that is no source.
    """
    names = [entry["name"] for entry in manifest.source_sets]
    if unknown := sorted(chosen.keys() - set(names)):
        known = f"its sources are {', '.join(names)}" if names else "it has a single source"
        raise UserError(f"--source-weights: the record set has no source {unknown[0]!r}; {known}")
    return [chosen.get(entry["name"], entry["weight"]) for entry in manifest.source_sets]


def epoch_size(manifest: Manifest, weights: Sequence[float]) -> int:
    """Return the number of samples of an epoch, with repetitions."""
    if not weights:
        return manifest.num_images
    return sum(round(weight * count) for weight, count in zip(weights, manifest.images_per_source, strict=True))
