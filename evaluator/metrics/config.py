"""Options of the metrics. Imports nothing heavy."""

from dataclasses import dataclass
from typing import Literal

MetricName = Literal["coco", "crowdpose", "ochuman", "pck", "pckh", "posetrack"]
Norm = Literal["torso", "head", "box"]


@dataclass(frozen=True, kw_only=True)
class MetricConfig:
    """Which metrics are computed, beside COCO's ten, which every evaluation has."""

    metric: tuple[MetricName, ...] = ("coco",)
    """Metrics to print and to write to metrics.json and the report beside COCO's (coco), which are always there: crowdpose, AP by
    crowding (CrowdPose); ochuman, AP with box areas (OCHuman); pck and pckh, the share of right joints (LSP, MPII); posetrack, AP by
    joint (PoseTrack)."""
    pck_norm: Norm = "torso"
    """pck: length that the allowed distance refers to: torso (left shoulder to right hip), head (0.6 x diagonal of the head box), or
    box (longer side of the person's box)."""

    def __post_init__(self) -> None:
        if not self.metric or len(set(self.metric)) != len(self.metric):
            raise ValueError(f"metric must be one or more different names, got {list(self.metric)}")
        if self.pck_norm != "torso" and "pck" not in self.metric:
            raise ValueError(f"--pck-norm {self.pck_norm} needs --metric pck")

    @property
    def others(self) -> tuple[MetricName, ...]:
        """The metrics other than COCO's."""
        return tuple(name for name in self.metric if name != "coco")
