"""What metrics return: the names of COCO's ten keypoint metrics, and the figures of the other metrics.

Imports no other module of the project, because `predict` runs without pycocotools.
"""

from dataclasses import dataclass, field

FIGURES = ("AP", "AP .5", "AP .75", "AP (M)", "AP (L)", "AR", "AR .5", "AR .75", "AR (M)", "AR (L)")
UNDEFINED = -1.0  # a figure over nothing


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a metric says about results.

    about: a sentence that says what is measured. figures: by name, from 0 to 1, or UNDEFINED. joints: by name of the figure, then of
    the joint. counts: numbers of people and images by name.
    """

    about: str
    figures: dict[str, float]
    joints: dict[str, dict[str, float]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return the text to print: what is measured, the table of the joints, counts, and the figures as a dict, for scripts."""
        lines = [self.about]
        if self.joints:
            width = max(len(joint) for column in self.joints.values() for joint in column)
            heads = [f"{name:>{max(len(name), 6)}}" for name in self.joints]
            lines.append("  ".join([" " * width, *heads]))
            for joint in next(iter(self.joints.values())):
                cells = [f"{column[joint]:>{len(head)}.3f}" for column, head in zip(self.joints.values(), heads, strict=True)]
                lines.append("  ".join([f"{joint:<{width}}", *cells]))
        if self.counts:
            lines.append(", ".join(f"{number:,} {name}" for name, number in self.counts.items()))
        return [*lines, str({name: round(value, 4) for name, value in self.figures.items()})]
