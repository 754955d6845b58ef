"""Checks of the server, for operators."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice

from ...backend import Finding
from ...errors import StoreUnavailable
from ...redact import short
from .connections import Connections

SKEW = 1.0
"""Seconds by which clocks may differ before sessions expire noticeably early or late."""
OLDEST = (6, 2)
"""The oldest supported release of Redis."""
LOOKED_AT = 20_000
"""Most records that are checked for damage: a second of work."""


def findings(server: Connections, now: float, records: Iterable[tuple[str, bool]]) -> list[Finding]:
    """Return findings about the server's version, settings, role and clock, and about the records.

    Args:
        server: The server.
        now: The time of the caller's clock.
        records: The id of each record, and whether it is damaged. Up to ``LOOKED_AT`` are looked at.
    """
    found: list[Finding] = []
    try:
        asked = time.monotonic()
        info = _info(server)
        found += _version(info)
        found += _persistence(info)
        found += _eviction(info)
        found += _role(info)
        found += _clock(server, now + time.monotonic() - asked)
        found.append(_damage(records))
    except StoreUnavailable as error:
        found.append(Finding("error", "reachable", str(error)))
    return found


def _damage(records: Iterable[tuple[str, bool]]) -> Finding:
    looked_at = list(islice(records, LOOKED_AT))
    count, damaged = len(looked_at), [sid for sid, is_damaged in looked_at if is_damaged]
    if not damaged:
        return Finding("ok", "records", f"{count:,} checked, none damaged")
    some = ", ".join(sorted(map(short, damaged))[:3])
    message = f"{len(damaged):,} of {count:,} records are damaged ({some}): reset or destroy the sessions"
    return Finding("error", "records", message)


def _info(server: Connections) -> dict[str, str]:
    text: bytes = server.command("INFO", "all")
    lines = (line.partition(":") for line in text.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _version(info: dict[str, str]) -> Iterator[Finding]:
    is_valkey = "valkey_version" in info
    version = info.get("redis_version", "0")
    name = f"Valkey {info['valkey_version']}" if is_valkey else f"Redis {version}"
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        yield Finding("error", "version", f"{name} is too old: 6.2 or later is needed")
    else:
        yield Finding("ok", "reachable", f"{name} answers")


def _persistence(info: dict[str, str]) -> Iterator[Finding]:
    if info.get("aof_enabled") == "1":
        good = info.get("aof_last_write_status") == "ok"
        if good:
            yield Finding("ok", "persistence", "the append-only file is on")
        else:
            yield Finding("error", "persistence", "the last write to the append-only file failed")
    elif info.get("rdb_last_bgsave_status") == "err":
        yield Finding("error", "persistence", "the last snapshot failed")
    else:
        message = "the append-only file is off: a restart loses the sessions of the last minutes, or all"
        yield Finding("warning", "persistence", message)


def _eviction(info: dict[str, str]) -> Iterator[Finding]:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        yield Finding("ok", "eviction", "nothing is evicted to make room (noeviction)")
    elif info.get("maxmemory", "0") == "0":
        yield Finding("warning", "eviction", f"with {policy}, sessions will be evicted once maxmemory is set")
    else:
        yield Finding("error", "eviction", f"with {policy}, living sessions are evicted to make room: use noeviction")


def _role(info: dict[str, str]) -> Iterator[Finding]:
    if info.get("role") not in (None, "master"):
        yield Finding("error", "role", "this server is a replica: sessions cannot be written")
    if info.get("cluster_enabled") == "1":
        yield Finding("warning", "cluster", "all sessions of one prefix live on one node: give the URL of that node")


def _clock(server: Connections, now: float) -> Iterator[Finding]:
    seconds, micros = server.command("TIME")
    skew = int(seconds) + int(micros) / 1e6 - now
    if abs(skew) > SKEW:
        message = f"this host's clock and the server's differ by {abs(skew):.1f} s: sessions expire early or late"
        yield Finding("warning", "clock", message)
    else:
        yield Finding("ok", "clock", f"this host's clock and the server's agree ({abs(skew):.3f} s)")
