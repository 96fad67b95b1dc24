"""What typer makes of commands: how their help is shaped, and which words the parser reads."""

from __future__ import annotations

from typing import Any, Final

from typer.core import TyperCommand, TyperGroup

PORT: Final = "--dashboard"  # its value may be left out, which the parser does not know

_GOES_ON: Final = frozenset({"resume", "continue"})


class Command(TyperCommand):
    """A command whose help does not show the types of its flags."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put in the port of `--dashboard` where it was left out."""
        return super().parse_args(ctx, with_port(args))

    def get_params(self, ctx: Any) -> list[Any]:
        """Its options and arguments."""
        return [_unread(option) for option in super().get_params(ctx)]

    def get_help_option(self, ctx: Any) -> Any:
        """`--help`, without `<bool>`."""
        return _plain(super().get_help_option(ctx))


class Group(TyperGroup):
    """The program, whose help does not show them either; it lists commands in the order in which they are made.

    Its own help is plain text, as it is asked for most: loading what draws panels takes longer than all else of it.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "rich_markup_mode": None})

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands, each with the whole first paragraph of its help."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, (command.help or "").partition("\n\n")[0]) for name, command in commands if command]
            )

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; there is none that only goes on, as all do."""
        if args[0] in _GOES_ON:
            ctx.fail(f"No such command '{args[0]}': the same `cottonpalm run …` again goes on with a run")
        return super().resolve_command(ctx, args)

    def get_help_option(self, ctx: Any) -> Any:
        """`--help`, without `<bool>`."""
        return _plain(super().get_help_option(ctx))

    def get_params(self, ctx: Any) -> list[Any]:
        """Its options, those for completion without `<bool>`."""
        return [_unread(_plain(option)) for option in super().get_params(ctx)]


def with_port(args: list[str]) -> list[str]:
    """`--dashboard` without a number after it means any port."""
    return [
        f"{PORT}=auto" if word == PORT and not "".join(args[at : at + 1]).isdecimal() else word
        for at, word in enumerate(args, 1)
    ]


def _plain(option: Any) -> Any:
    if option is not None and option.param_type_name == "option":
        option.metavar = ""
    return option


def _unread(option: Any) -> Any:
    """Read only what was typed: for each value that it reads, typer has pydantic make a reader."""
    if "process_value" not in vars(option):
        read = option.process_value

        def process(ctx: Any, value: Any) -> Any:
            if ctx.resilient_parsing or _is_default(option, ctx, value):
                return value
            _check_named(option, ctx, value)
            return read(ctx, value)

        option.process_value = process
    return option


def _check_named(option: Any, ctx: Any, value: object) -> None:
    """Empty text is no file, though to Python it is the folder one is in: a variable of the shell was not set."""
    if value == "" and "FILE" in (option.metavar or ""):
        ctx.fail(f"{option.opts[0]} is empty: name a file, or leave it out")


def _is_default(option: Any, ctx: Any, value: object) -> bool:
    """Whether this is a default that stands as it is."""
    if option.callback is not None or option.required or option.multiple or option.nargs != 1:
        return False
    plain = value is None or type(value) in (str, int, float, bool)
    return plain and ctx.get_parameter_source(option.name).name == "DEFAULT"
