"""The commands of the data cards: `python -m data_cards RECORDS`, or `python -m data_cards COMMAND`."""

import sys
from collections.abc import Sequence

from pipeline.cli import Command, leave, main

COMMANDS = {
    "write": Command(
        help="write the card of a record set (default command: python -m data_cards RECORDS)",
        config="data_cards.config:WriteConfig",
        run="data_cards.write:run",
    ),
    "compare": Command(
        help="compare two record sets and list the images that they share",
        config="data_cards.config:CompareConfig",
        run="data_cards.compare:run",
        prints=True,
    ),
    "lineage": Command(
        help="show what a network has learned from: data sets, licenses of images, imported weights",
        config="data_cards.config:LineageConfig",
        run="data_cards.lineage:run",
        prints=True,
    ),
}


def with_command(words: Sequence[str]) -> list[str]:
    """Insert the command `write` if the first word is a folder. A folder named like a command is given as ./compare."""
    is_folder = words and words[0] not in COMMANDS and not words[0].startswith("-")
    return ["write", *words] if is_folder else list(words)


if __name__ == "__main__":
    leave(
        main(
            "python -m data_cards",
            "Describe and compare record sets, and show what networks have learned from.",
            COMMANDS,
            with_command(sys.argv[1:]),
        )
    )
