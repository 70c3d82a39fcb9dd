"""Words in messages. Imports nothing."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 image", "1,200 images", "2 people" (noun "person")."""
    return f"{number:,} {noun if number == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """Return the plural of a noun; of several words, the last one changes: "target person" becomes "target people"."""
    return f"{noun.removesuffix('person')}people" if noun.endswith("person") else f"{noun}s"
