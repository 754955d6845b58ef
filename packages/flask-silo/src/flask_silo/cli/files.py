"""``flask silo files``: the files of sessions, and a sweep of those whose session has ended."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

import click
from flask.cli import AppGroup
from silo_files import Usage
from silo_store import SessionStore, short

from ..lives import LivenessCheck, UnknownFileStore
from ..text import columns, duration, plural
from . import inspect
from .commands import CommandOutput, SiloCommand, commands, current_silo
from .inspect import CommandError

if TYPE_CHECKING:
    from ..files.store import SessionFileStore


class FilesGroup(AppGroup):
    """The group ``flask silo files``. ``flask silo files [STORE]`` is short for ``flask silo files show [STORE]``."""

    command_class = SiloCommand

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["show", *args]
        return super().parse_args(ctx, args)


files: FilesGroup = FilesGroup("files", help="Show the files of sessions; without a command, as 'show' does.")
commands.add_command(files)


@files.command("show")
@click.argument("name", metavar="[STORE]", required=False)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many sessions to show.")
@click.option("--full-ids", is_flag=True, help="Show whole ids. Every client that knows an id has the session.")
def show(name: str | None, limit: int, full_ids: bool) -> CommandOutput:
    """Show how many files each session has, the largest first.

    STORE is the name of a file store; by default, all are shown. Looks at every session and renews none.
    """
    silo = current_silo()
    found: dict[str, Any] = {}
    lines: list[str] = []
    for store in _chosen(name):
        document = found[store.name] = _described(silo.store, store, limit, full_ids)
        lines += ["", *_table(store, document)]
    return CommandOutput({"stores": found}, lines[1:] or ["no file stores"])


@files.command("sweep")
@click.argument("name", metavar="[STORE]", required=False)
def sweep(name: str | None) -> CommandOutput:
    """Remove files whose session has ended, and what killed processes have left.

    STORE is the name of a file store; by default, all are swept.
    """
    silo = current_silo()
    if not silo.store.backend.shared:
        raise CommandError(
            "sessions_not_shared",
            "sessions are in the memory of each process, so this command knows none of them and removes nothing: the "
            "next server process removes the files of those that have ended",
        )
    check = LivenessCheck(silo.apps.living)
    removed = {store.name: store.sweep(check) for store in _chosen(name)}
    if check.failure is not None:
        raise check.failure
    lines = [f"{name}: the files of {plural(number, 'session')} removed" for name, number in removed.items()]
    return CommandOutput({"removed": removed}, lines or ["no file stores"])


def _chosen(name: str | None) -> list[SessionFileStore]:
    files = current_silo().files
    if name is None:
        return list(files.stores.values())
    try:
        return [files.store(name)]
    except UnknownFileStore as error:
        raise CommandError("unknown_file_store", str(error)) from error


def _described(sessions: SessionStore, store: SessionFileStore, limit: int, full_ids: bool) -> dict[str, Any]:
    """Return the files of a store by session, for JSON. Those of no session are the rest of its total."""
    at, living, entries = sessions.moment(), Usage(0, 0), []
    for record in inspect.records(sessions):
        usage = store.usage(record.sid)
        if usage.files:
            living = Usage(living.bytes + usage.bytes, living.files + usage.files)
            sid = record.sid if full_ids else short(record.sid)
            age = max(0.0, at.now - record.created)
            entries.append({"sid": sid, "uid": record.uid, "age": age, "files": usage.files, "bytes": usage.bytes})
    total = store.total()
    return {
        "folder": store.base_dir,
        "sessions": heapq.nlargest(limit, entries, key=lambda entry: entry["bytes"]),
        "more": max(0, len(entries) - limit),
        "others": {"files": max(0, total.files - living.files), "bytes": max(0, total.bytes - living.bytes)},
        "total": {"files": total.files, "bytes": total.bytes},
        "limits": store.limits,
    }


def _table(store: SessionFileStore, document: dict[str, Any]) -> list[str]:
    rows = [("session", "age", "files", "bytes")]
    rows += [
        (entry["sid"], duration(round(entry["age"])), f"{entry['files']:,}", f"{entry['bytes']:,}")
        for entry in document["sessions"]
    ]
    if document["others"]["files"]:
        rows.append(("of no session", "", f"{document['others']['files']:,}", f"{document['others']['bytes']:,}"))
    rows.append(("total", "", f"{document['total']['files']:,}", f"{document['total']['bytes']:,}"))
    limits = ", ".join(f"{name} {limit:,}" for name, limit in store.limits.items()) or "none"
    more = [f"and {plural(document['more'], 'more session')} (--limit)"] if document["more"] else []
    return [f"{store.name} in {store.base_dir}", *columns(rows, right=(1, 2, 3)), *more, f"limits: {limits}"]
