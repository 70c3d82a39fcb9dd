"""The commands of the data cards: `python -m data_cards RECORDS`, or `python -m data_cards COMMAND`."""

import sys
from collections.abc import Sequence

from pipeline.cli import Command, leave, main

COMMANDS = {
    "write": Command(
        help="write the card of a record set anew (also without the word: python -m data_cards RECORDS)",
        config="data_cards.card:WriteConfig",
        run="data_cards.card:run",
    ),
    "compare": Command(
        help="two record sets side by side, and the images they share",
        config="data_cards.compare:CompareConfig",
        run="data_cards.compare:run",
    ),
}


def commanded(words: Sequence[str]) -> list[str]:
    """A record set's folder in front means `write`; one named like a command is given as ./compare."""
    bare = words and words[0] not in COMMANDS and not words[0].startswith("-")
    return ["write", *words] if bare else list(words)


if __name__ == "__main__":
    leave(main("python -m data_cards", "Say what is in a record set.", COMMANDS, commanded(sys.argv[1:])))
