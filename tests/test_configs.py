"""The configuration of every command, saved as config.yaml, is read back by `--config`. Walks the command tables of all stages."""

import contextlib
import dataclasses
import types
import typing
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import flatten, parse, save_config
from pipeline.errors import UserError
from pipeline.parsing import option_types

STAGES = ["pipeline", "trainer", "evaluator", "data_cards"]
COMMANDS = {
    f"{stage} {name}": command.config for stage in STAGES for name, command in import_module(f"{stage}.__main__").COMMANDS.items()
} | {"quickstart": "evaluator.quickstart:QuickstartConfig"}
# Required options that a value of the right type alone does not satisfy.
REQUIRED = {
    "trainer launch": {"command": ("train", "--records", "r", "--out", "o", "--config", "-c.yaml")},
    "pipeline build": {"annotations": Path("a"), "images": Path("i")},
    "evaluator run": {"checkpoint": Path("c"), "annotations": Path("a"), "images": Path("i")},
    "evaluator merge": {"annotations": Path("a")},
    "evaluator score": {"results": (Path("r"),)},
}


def load(target: str) -> type:
    module, name = target.split(":")
    return getattr(import_module(module), name)


def examples(kind: Any) -> Iterator[Any]:
    """Yield values of a type, among them some that are hard to write in YAML."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        yield from examples(args[0])
    elif origin in (typing.Union, types.UnionType):
        for member in args:
            yield from examples(member)
    elif origin is typing.Literal:
        yield from args
    elif origin is tuple:
        length = 2 if args[-1] is ... else len(args)
        for value in examples(args[0]):
            yield (value,) * length
        if args[-1] is ...:
            yield ()
    else:
        yield from {
            bool: [True, False],
            int: [2, 1, 0, 64, -1],
            float: [0.5, 1.0, 1e-7, 2.0, -1.5],
            str: ["null", "3", "a b: c", "-x", ""],
            Path: [Path("some/folder of mine"), Path("-3"), Path("null")],
            type(None): [None],
        }[kind]


def default_config(command: str) -> Any:
    """Return a valid configuration: defaults, and the first example of every required option."""
    config = load(COMMANDS[command])
    values = {
        field.name: next(examples(field.type))
        for field in dataclasses.fields(config)
        if field.default is field.default_factory is dataclasses.MISSING
    }
    return config(**{**values, **REQUIRED.get(command, {})})


def varied(config: Any, number: int) -> Any:
    """Return a copy with the `number`-th example in every option that takes it, also in its groups."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            other = varied(value, number)
        else:
            values = list(examples(field.type))
            other = values[number % len(values)]
        with contextlib.suppress(ValueError, UserError):  # refused, such as a file that does not exist
            config = dataclasses.replace(config, **{field.name: other})
    return config


@pytest.mark.parametrize("number", [None, *range(5)])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_saved_configuration_is_read_back(command, number, tmp_path):
    default = default_config(command)
    config = default if number is None else varied(default, number)
    save_config(config, tmp_path / "config.yaml")
    read = parse(type(config), ["--config", str(tmp_path / "config.yaml")], prog=command)
    assert read == config
    assert flatten(read).keys() == option_types(type(config)).keys()


@pytest.mark.parametrize("command", COMMANDS)
def test_option_names_are_unique_across_groups(command):
    def names(config: Any) -> Iterator[str]:
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            yield from names(value) if dataclasses.is_dataclass(value) else [field.name]

    found = list(names(default_config(command)))
    assert len(found) == len(set(found))
