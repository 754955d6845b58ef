"""The commands of ``flask silo``."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from flask import current_app
from flask.cli import AppGroup
from silo_store import RecordDamaged, StoreUnavailable, redact, short

from ..text import columns, cut, duration, moment, plural, printable, size
from . import inspect
from .doctor import examine
from .inspect import CommandError, SessionSummary

if TYPE_CHECKING:
    from ..binding import Binding
    from ..ext import Silo

STATE_LENGTH = 200
"""Characters of a namespace's state that ``flask silo show`` prints."""
SEPARATE_PROCESS = (
    "Note: sessions are in the memory of each process. This command is a process of its own and does not see the "
    "sessions of a running server."
)


@dataclass(frozen=True)
class CommandOutput:
    """The output of a command: a document for ``--json``, lines of text, and the exit status."""

    document: dict[str, Any]
    lines: list[str]
    code: int = 0


class SiloCommand(click.Command):
    """A command whose function returns a ``CommandOutput``.

    An error is one line on stderr. The exit status is 1, or 2 if the session store cannot be reached.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.params.append(click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON document."))

    def invoke(self, ctx: click.Context) -> None:
        as_json = ctx.params.pop("as_json")
        try:
            output: CommandOutput = super().invoke(ctx)
        except CommandError as error:
            output = _failure(error.code, str(error), 1)
        except RecordDamaged as error:
            output = _failure("record_damaged", f"{error}, for example with flask silo expire", 1)
        except StoreUnavailable as error:
            output = _failure("store_unavailable", f"session store unavailable: {error}", 2)
        if as_json:
            click.echo(json.dumps(output.document, indent=2))
        else:
            encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
            for line in output.lines:
                click.echo(printable(line, encoding))
        if "error" in output.document:
            click.echo(f"Error: {printable(output.document['message'])}", err=True)
        if ctx.command.name != "doctor" and not _binding().store.backend.shared:
            click.echo(SEPARATE_PROCESS, err=True)
        ctx.exit(output.code)


def _failure(code: str, message: str, status: int) -> CommandOutput:
    return CommandOutput({"error": code, "message": " ".join(message.split())}, [], status)


class SiloGroup(AppGroup):
    """Makes the commands of ``flask silo``."""

    command_class = SiloCommand


def current_silo() -> Silo:
    """Return the ``Silo`` of the current application."""
    found: Silo = current_app.extensions["silo"]
    return found


def _binding() -> Binding:
    return current_silo().binding


commands: SiloGroup = SiloGroup("silo")

ANY_ID = {"ignore_unknown_options": True}
"""An id may begin with a hyphen."""


@commands.command("stats")
@click.option("--sizes", is_flag=True, help="Add up the bytes of each namespace. Reads every session.")
def stats(sizes: bool) -> CommandOutput:
    """Show how many sessions there are and where they are kept."""
    binding = _binding()
    store = binding.store
    at, backend = store.moment(), store.backend
    document: dict[str, Any] = {
        "backend": type(backend).__name__,
        "url": redact(binding.settings.store_url),
        "shared": backend.shared,
        "live": backend.live,
        "sessions": store.active_count,
        "expired_ids": store.expired_count,
        "ttl": at.ttl,
        "touch_interval": 0.0 if backend.live else at.touch_interval,
        "cleanup_interval": store.cleanup_interval,
        "expired_retain": store.expired_retain,
        "namespaces": sorted(store.registry.factories),
    }
    rows = [
        ("sessions", f"{document['sessions']:,}"),
        ("expired ids", f"{document['expired_ids']:,} remembered, each for {duration(store.expired_retain)}"),
        ("kept in", f"{document['url']} ({document['backend']})"),
        ("kept as", "live objects" if backend.live else "encoded copies"),
        ("shared", "by all worker processes" if backend.shared else "no: each worker process has its own"),
        ("time to live", f"{duration(at.ttl)} after the last request"),
        (
            "touch interval",
            "none" if backend.live else f"{duration(at.touch_interval)} between two recorded uses of a session",
        ),
        (
            "swept every",
            duration(store.cleanup_interval) if binding.settings.auto_cleanup else "- (auto_cleanup is off)",
        ),
        ("namespaces", ", ".join(document["namespaces"]) or "none"),
    ]
    if sizes:
        document["bytes"] = inspect.sizes(store)
        if document["bytes"] is None:
            rows.append(("bytes", "unknown for live objects"))
        else:
            rows += [(f"bytes of {name}", f"{count:,}") for name, count in sorted(document["bytes"].items())]
    return CommandOutput(document, columns(rows))


@commands.command("sessions")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many to show.")
@click.option("--full-ids", is_flag=True, help="Show whole ids. Every client that knows an id has the session.")
def sessions(limit: int, full_ids: bool) -> CommandOutput:
    """List sessions, the last used first. Reads every session and renews none."""
    store = _binding().store
    summaries, total = inspect.latest(store, limit)
    rows, entries = [("session", "age", "idle", "time left", "bytes", "")], []
    for summary in summaries:
        held = store.backend.held(summary.uid)
        entries.append({**summary.document(full=full_ids), "held": held})
        rows.append(
            (
                summary.sid if full_ids else short(summary.sid),
                duration(round(summary.age)),
                duration(round(summary.idle)),
                "over" if summary.due else duration(round(summary.time_left)),
                size(summary.bytes),
                "held" if held else "to be swept" if summary.due else "",
            )
        )
    lines = columns(rows, right=(1, 2, 3, 4)) if summaries else ["no sessions"]
    if total > len(summaries):
        lines.append(f"and {total - len(summaries):,} more (--limit)")
    return CommandOutput({"sessions": entries, "total": total, "more": total - len(summaries)}, lines)


@commands.command("show", context_settings=ANY_ID)
@click.argument("sid")
def show(sid: str) -> CommandOutput:
    """Show one session, its state and how many files it has, without renewing it.

    SID is its id, or the beginning of it that `flask silo sessions` shows.
    """
    silo = current_silo()
    store = silo.store
    record = inspect.find(store, sid)
    summary = SessionSummary.of(record, store.moment(), live=store.backend.live)
    held = store.backend.held(record.uid)
    spaces = inspect.namespaces(store, record)
    rows = [
        ("session", short(record.sid)),
        ("uid", record.uid),
        ("began", f"{moment(summary.created)} ({duration(round(summary.age))} ago)"),
        ("last used", f"{moment(summary.last_active)} ({duration(round(summary.idle))} ago)"),
        ("ends", _expiry(summary)),
        ("held", "yes: a task, or other work, keeps it from expiring" if held else "no"),
        ("bytes", size(summary.bytes)),
    ]
    if tasks := inspect.tasks(store, record):
        rows.append(("tasks", ", ".join(f"{name} ({status})" for name, status in tasks.items())))
    files = inspect.files(silo.files.stores, record)
    for name, usage in files.items():
        rows.append((f"files of {name}", f"{plural(usage['files'], 'file')}, {plural(usage['bytes'], 'byte')}"))
    states = [(f"  {name}", size(space["bytes"]), _state(space)) for name, space in spaces.items()]
    table = columns([("  name", "bytes", "state"), *states], right=(1,)) if states else ["  none"]
    return CommandOutput(
        {**summary.document(), "held": held, "tasks": tasks, "files": files, "namespaces": spaces},
        [*columns(rows), "", "namespaces", *table],
    )


def _expiry(summary: SessionSummary) -> str:
    if summary.due:
        return "when it is no longer held: its time is over"
    return f"in {duration(round(summary.time_left))}, unless it is used"


def _state(space: dict[str, Any]) -> str:
    if "error" in space:
        return f"! {space['error']}"
    if "repr" in space:
        return cut(str(space["repr"]), STATE_LENGTH)
    if "state" in space:
        return cut(json.dumps(space["state"], ensure_ascii=False), STATE_LENGTH)
    return "not read"


@commands.command("expire", context_settings=ANY_ID)
@click.argument("sid")
def expire(sid: str) -> CommandOutput:
    """End one session now, as if its time were over.

    Its files are removed and its tasks cancelled. Its client gets a 410 where the application needs its data. SID is
    its id, or the beginning of it that `flask silo sessions` shows. A session whose record is damaged is destroyed.
    """
    store = _binding().store
    try:
        found = inspect.find(store, sid).sid
    except RecordDamaged as error:
        found = error.sid
    if not store.expire(found):
        raise CommandError(
            "session_busy",
            f"session {short(found)} is in use by a task or a writing request, and was not ended: try again later",
        )
    return CommandOutput({"sid": short(found), "expired": True}, [f"session {short(found)} has ended"])


@commands.command("sweep")
def sweep() -> CommandOutput:
    """End the sessions whose time is over."""
    store = _binding().store
    ended, left = len(store.cleanup()), store.active_count
    return CommandOutput({"expired": ended, "sessions": left}, [f"{plural(ended, 'session')} expired, {left:,} left"])


@commands.command("doctor")
def doctor() -> CommandOutput:
    """Check settings, session store, workers and file folders.

    The exit status is 1 if there is an error.
    """
    silo = current_silo()
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    findings = examine(app, silo.binding, silo.files.stores, os.environ)
    errors, warnings = (sum(finding.level == level for finding in findings) for level in ("error", "warning"))
    document = {"errors": errors, "warnings": warnings, "findings": [finding._asdict() for finding in findings]}
    lines = [*columns(findings), "", f"{plural(errors, 'error')}, {plural(warnings, 'warning')}"]
    return CommandOutput(document, lines, 1 if errors else 0)
