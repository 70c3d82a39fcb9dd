"""Words in messages, and text from outside in them. Imports nothing."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 image", "1,200 images", "2 people" (noun "person")."""
    return f"{number:,} {noun if number == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """Return the plural of a noun; of several words, the last one changes: "target person" becomes "target people"."""
    return f"{noun.removesuffix('person')}people" if noun.endswith("person") else f"{noun}{'es' if noun.endswith('x') else 's'}"


def printable(text: str, keep: str = "") -> str:
    """Return a text from outside so that it can be printed or written as a cell of a table: on one line, without control characters.

    Escapes everything that is not printable, such as line ends, terminal escapes, marks that reverse the direction of text, and
    lone surrogates, as Python source does: "\\n", "\\x1b", "\\u202e". `keep`: characters to leave as they are.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)
