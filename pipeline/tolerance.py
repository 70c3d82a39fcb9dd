"""How many unreadable images a command accepts: one option, one rule. Imports only `pipeline.errors` and `pipeline.wording`."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import UserError
from pipeline.wording import counted, printable

MAX_LISTED = 20


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """The option --max-unreadable."""

    max_unreadable: float = 0.01
    """Largest share of the images, from 0 to 1, that may be unreadable. Such images are skipped and listed; if there are more, the
    command fails."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_unreadable <= 1:
            raise ValueError(f"max_unreadable must be from 0 to 1, got {self.max_unreadable}")

    def allows(self, num_unreadable: int, num_images: int) -> bool:
        """Return whether so few of the images are unreadable that the command may succeed. At least one must be readable."""
        return not num_unreadable or (num_unreadable / num_images <= self.max_unreadable and num_unreadable < num_images)

    def require(self, unreadable: Sequence[tuple[str, str]], num_images: int, where: str) -> None:
        """Raise UserError, which begins with `where`, unless `allows`. unreadable: file name and reason of each unreadable image."""
        if not self.allows(len(unreadable), num_images):
            raise UserError(self.explain(len(unreadable), num_images, unreadable[0], where))

    def explain(self, num_unreadable: int, num_images: int, first: tuple[str, str], where: str) -> str:
        """Return the message of `require`. first: file name and reason of an unreadable image."""
        name, reason = (printable(text) for text in first)
        verb = "is" if num_unreadable == 1 else "are"
        rule, advice = "at least one must be readable", "restore the images"
        if num_unreadable < num_images:
            rule = f"more than --max-unreadable {self.max_unreadable:g} allows"
            advice += f", or accept them with --max-unreadable {math.ceil(100 * num_unreadable / num_images) / 100:g}"
        return (
            f"{where}: {num_unreadable:,} of {counted(num_images, 'image')} {verb} unreadable, {rule}; "
            f"first: {name}: {reason}; {advice}"
        )


def report_unreadable(
    unreadable: dict[str, str], consequence: str, tolerance: Tolerance, num_images: int, num_unreadable: int | None = None
) -> int:
    """Print the images that could not be read, at most MAX_LISTED, and return the exit code: 1 if they are too many.

    unreadable: reasons by file name. consequence: what happens to these images, such as "skipped". num_images: of all images.
    num_unreadable: if it is not one per file.
    """
    if not unreadable:
        return 0
    count = len(unreadable) if num_unreadable is None else num_unreadable
    for name, reason in list(unreadable.items())[:MAX_LISTED]:
        print(f"unreadable image {printable(name)}: {printable(reason)}", file=sys.stderr)
    if len(unreadable) > MAX_LISTED:
        print(f"… and {len(unreadable) - MAX_LISTED} more", file=sys.stderr)
    print(f"{counted(count, 'image')} could not be read ({consequence})", file=sys.stderr)
    if tolerance.allows(count, num_images):
        return 0
    print(f"error: {tolerance.explain(count, num_images, next(iter(unreadable.items())), 'images')}", file=sys.stderr)
    return 1
