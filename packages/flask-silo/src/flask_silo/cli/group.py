"""``LazyGroup``, the group ``flask silo`` as an application has it."""

from __future__ import annotations

import click
from flask.cli import AppGroup


class LazyGroup(AppGroup):
    """A group that imports its commands when it is used. A server never uses it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        self._load()
        return super().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        self._load()
        return super().get_command(ctx, cmd_name)

    def _load(self) -> None:
        from . import files  # noqa: F401 - adds its commands
        from .commands import commands

        self.commands.update(commands.commands)


commands: LazyGroup = LazyGroup("silo", help="Look at the sessions of clients, end them, and check the set-up.")
