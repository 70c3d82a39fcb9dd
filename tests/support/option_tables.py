"""Write the option tables of the stage READMEs from the option classes of the commands.

    python tests/support/option_tables.py --write

Each stage README holds its tables between `<!-- options: begin -->` and `<!-- options: end -->`. Without `--write` the command
only says which READMEs are out of date; the exit code is then 1.
"""

import ast
import dataclasses
import inspect
import itertools
import sys
import textwrap
import typing
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import tyro

from pipeline.cli import option_types

ROOT = Path(__file__).parents[2]
STAGES = ("pipeline", "trainer", "evaluator", "data_cards")
# Commands that are installed as scripts, beside the commands of a stage's table.
SCRIPTS = {"evaluator": {"openpose-quickstart": "evaluator.quickstart:QuickstartConfig"}}
BEGIN, END = "<!-- options: begin -->", "<!-- options: end -->"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Option:
    """One option as the tables show it. `names` has the main name first, then its aliases; a positional has its metavar."""

    names: tuple[str, ...]
    field: str
    default: str
    help: str


def commands(stage: str) -> dict[str, type]:
    """The option class of every command of a stage, by the words that start the command."""
    table = import_module(f"{stage}.__main__").COMMANDS
    targets = {f"python -m {stage} {name}": command.config for name, command in table.items()}
    return {words: _load(target) for words, target in (targets | SCRIPTS.get(stage, {})).items()}


def groups(config: type) -> dict[type, str]:
    """The option groups (nested dataclasses) of an option class, groups of groups included, and the title of each."""
    options = option_types(config)
    found: dict[type, str] = {}
    for field in dataclasses.fields(config):
        if field.name not in options:
            kind = typing.get_args(field.type)[0] if typing.get_origin(field.type) is typing.Annotated else field.type
            found |= {kind: f"{field.name.capitalize().removesuffix('s')} options", **groups(kind)}
    return found


def own_options(config: type) -> list[Option]:
    """The options of a class without those of its groups."""
    types, texts = option_types(config), _field_docstrings(config)
    return [
        _option(field, types[field.name], texts.get(field.name, ""))
        for field in dataclasses.fields(config)
        if field.name in types
    ]


def all_options(config: type) -> list[Option]:
    """The options of a class and of its groups."""
    return [option for kind in (config, *groups(config)) for option in own_options(kind)]


def tables(stage: str) -> str:
    """The Markdown of all option tables of a stage. A group that several commands share has a table of its own."""
    by_command = commands(stage)
    titles: dict[type, str] = {}
    users: dict[type, list[str]] = {}
    for words, config in by_command.items():
        for group, title in groups(config).items():
            titles.setdefault(group, title)
            users.setdefault(group, []).append(words)
    parts = []
    for words, config in by_command.items():
        single = [group for group in groups(config) if len(users[group]) == 1]
        shared = [group for group in groups(config) if len(users[group]) > 1]
        options = [option for kind in (config, *single) for option in own_options(kind)]
        links = ", ".join(f"[{titles[group]}](#{_anchor(titles[group])})" for group in shared)
        more = f"\n\nAlso takes: {links}." if links else ""
        parts.append(f"### `{words}`\n\n{_summary(config)}\n\n{_table(options)}{more}{_presets(config)}")
    for group, names in users.items():
        if len(names) > 1:
            used_by = ", ".join(f"`{words.split()[-1]}`" for words in names)
            parts.append(f"### {titles[group]}\n\nOptions of {used_by}. {_summary(group)}\n\n{_table(own_options(group))}")
    return "\n\n".join(parts)


def with_tables(text: str, stage: str) -> str:
    """The text of a stage's README with its tables up to date. Raises ValueError if the marker lines are missing."""
    before, begin, rest = text.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{stage}/README.md: expected the lines {BEGIN} and {END}")
    return f"{before}{begin}\n{tables(stage)}\n\n{end}{after}"


def _load(target: str) -> type:
    module, name = target.split(":")
    return getattr(import_module(module), name)


def _option(field: dataclasses.Field, kind: Any, text: str) -> Option:
    markers: tuple[Any, ...] = ()
    if typing.get_origin(kind) is typing.Annotated:
        kind, *markers = typing.get_args(kind)
    text = text or " ".join(next((marker.help for marker in markers if getattr(marker, "help", None)), "").split())
    if typing.get_origin(kind) is Literal:
        text = f"{text} Choices: {', '.join(f'`{choice}`' for choice in typing.get_args(kind))}."
    if tyro.conf.Positional in markers:
        names = (field.name.upper(),)
    else:
        aliases = [alias for marker in markers for alias in getattr(marker, "aliases", None) or ()]
        named = next((marker.name for marker in markers if getattr(marker, "name", None)), field.name)
        names = ("--" + named.replace("_", "-"), *aliases)
    return Option(names=names, field=field.name, default=_default(field), help=text)


def _default(field: dataclasses.Field) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return _as_words(field.default_factory())
    return "**required**" if field.default is dataclasses.MISSING else _as_words(field.default)


def _as_words(value: Any) -> str:
    """A value as it is typed on the command line."""
    if value is None or value == ():
        return "–"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return f"`{' '.join(_number(item) for item in value)}`"
    return f"`{_number(value)}`"


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _field_docstrings(config: type) -> dict[str, str]:
    """The string that follows each field of a dataclass, as one line."""
    body = ast.parse(textwrap.dedent(inspect.getsource(config))).body[0].body
    texts = {}
    for field, text in itertools.pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            texts[field.target.id] = " ".join(str(text.value.value).split())
    return texts


def _summary(config: type) -> str:
    """The first paragraph of the docstring of a class."""
    return _cell(" ".join(inspect.cleandoc(config.__doc__ or "").split("\n\n")[0].split()))


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _table(options: list[Option]) -> str:
    rows = [
        f"| {', '.join(f'`{name}`' for name in option.names)} | {option.default} | {_cell(option.help)} |" for option in options
    ]
    return "\n".join(["| option | default | meaning |", "| --- | --- | --- |", *rows])


def _presets(config: type) -> str:
    """The options that presets change, one column for each preset."""
    presets: dict[str, dict[str, Any]] = getattr(config, "PRESETS", {})
    changed = dict.fromkeys(name for values in presets.values() for name in values)
    if not changed:
        return ""
    defaults = {option.field: option for option in all_options(config)}
    rows = []
    for name in changed:
        values = [_as_words(values[name]) if name in values else defaults[name].default for values in presets.values()]
        rows.append(f"| `{defaults[name].names[0]}` | {' | '.join(values)} |")
    head = f"| preset | {' | '.join(f'`{name}`' for name in presets)} |"
    return "\n\nDefaults that depend on `--preset`:\n\n" + "\n".join([head, "| --- |" + " --- |" * len(presets), *rows])


def _cell(text: str) -> str:
    """Text inside a table: the characters that Markdown would read as markup are escaped, except in code."""
    pieces = text.split("`")
    pieces[::2] = [piece.replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_") for piece in pieces[::2]]
    return "`".join(pieces).replace("|", "\\|")


def main(words: list[str]) -> int:
    """Update the READMEs, or say which are out of date."""
    outdated = 0
    for stage in STAGES:
        path = ROOT / stage / "README.md"
        text = path.read_text()
        updated = with_tables(text, stage)
        if text == updated:
            continue
        if "--write" in words:
            path.write_text(updated)
            print(f"{path.relative_to(ROOT)}: updated")
        else:
            outdated += 1
            print(f"{path.relative_to(ROOT)}: option tables are out of date; run this command with --write")
    return int(outdated > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
