"""Options for the settings of the decoder. Imports nothing heavy."""

import dataclasses
from dataclasses import dataclass

from evaluator.decoding import DecodeConfig


@dataclass(frozen=True, kw_only=True)
class DecodeOptions:
    """Settings of the decoder that replace those of the network: an exported file contains some, `tune` writes some into a checkpoint."""

    peak_threshold: float | None = None
    """Minimum height of a peak; weak networks need a low one. Default: that of the network, otherwise 0.03."""
    relative_threshold: float | None = None
    """Minimum height of a peak relative to the highest ones in the image. Default: that of the network, otherwise 0.2."""
    noise_factor: float | None = None
    """Minimum height of a peak in standard deviations of the heatmap noise. Default: that of the network, otherwise 4."""
    max_peaks: int | None = None
    """Maximum number of peaks per joint; the highest are kept. Default: that of the network, otherwise 128."""
    num_samples: int | None = None
    """Number of PAF samples between two peaks. Default: that of the network, otherwise 6."""
    paf_threshold: float | None = None
    """Minimum component of the PAF along the limb at which a sample agrees. Default: that of the network, otherwise 0.05."""
    short_limb_cells: float | None = None
    """Pairs of peaks closer than this need no PAF support. Default: that of the network, otherwise 1.5."""
    share_threshold: float | None = None
    """Minimum score at which a second person may share a peak that another person uses already; 1 or more disables sharing. Default:
    that of the network, otherwise 0.5."""
    fragments: bool | None = None
    """Join body parts that no limb connects if their distances fit the proportions of a body. Default: as the network says, otherwise
    yes."""

    def __post_init__(self) -> None:
        self.over(DecodeConfig())

    def over(self, settings: DecodeConfig) -> DecodeConfig:
        """Return these settings with the options that are given. Raises ValueError for values out of range."""
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return dataclasses.replace(settings, **{name: value for name, value in given.items() if value is not None})

    def filled(self, settings: DecodeConfig) -> "DecodeOptions":
        """Return options of which each is given: these, otherwise the ones in `settings`."""
        return DecodeOptions(**vars(self.over(settings)))
