"""Settings and data endpoints that have no effect, as after a typo."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import translate
from typing import Any

from werkzeug.routing import Rule

from .request.data_endpoints import is_pattern
from .request.endpoints import CATCH_ALL
from .settings import NAMES, PREFIX, Settings, from_environment

NO_SETTING = " is not a setting of flask-silo and has no effect: "


def config_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of an application's config whose names have the prefix of flask-silo's settings."""
    return {key: value for key, value in config.items() if key.startswith(PREFIX)}


def unknown_settings(config: Iterable[str], environ: Iterable[str]) -> Iterator[str]:
    """Yield a warning for each name that looks like a setting and is not one.

    In the environment, only names that are similar to a setting are reported: Kubernetes, for example, sets
    ``SILO_PORT`` and others for a service that is named "silo".
    """
    for key in config:
        near = _nearest(key)
        if near is not None:
            yield f"{key} in the application's config{NO_SETTING}{near or 'the guide lists the settings'}"
    for key in environ:
        near = _nearest(key)
        if near:
            yield f"{key} in the environment{NO_SETTING}{near}"


def _nearest(key: str) -> str | None:
    """Return a question that names the most similar setting; "" if none is similar, None if the name is right."""
    name = key.removeprefix(PREFIX).lower()
    if not key.startswith(PREFIX) or name in NAMES:
        return None
    near = get_close_matches(name, NAMES, 1)
    return f"did you mean {PREFIX}{near[0].upper()}?" if near else ""


def late_settings(settings: Settings, seen: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[str]:
    """Yield a warning for each setting that was put into the config after the config had been read.

    Args:
        settings: The settings in use.
        seen: The config when it was read.
        config: The config now.
    """
    for name in NAMES:
        key = PREFIX + name.upper()
        value = config.get(key)
        if value is not None and value not in (seen.get(key), getattr(settings, name)):
            yield (
                f"{key} was put into the application's config after the application was given to Silo, and has no "
                "effect: set it before Silo(app) or init_app(app)"
            )


def unused_environment(settings: Settings, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the name of each setting whose environment variable the application does not use, and a warning."""
    for name, value in from_environment(environ).items():
        if value != getattr(settings, name):
            yield (
                name,
                f"{PREFIX}{name.upper()} in the environment is not used: the application sets {name} itself",
            )


def lost_endpoints(names: Iterable[str], rules: Sequence[Rule], prefixes: Sequence[str]) -> Iterator[str]:
    """Yield a warning for each name of ``Silo.add_data_endpoints()`` that matches no request with a session.

    Args:
        names: The names that were added.
        rules: The application's URL rules.
        prefixes: The paths below which requests have a session.
    """
    below = [rule for rule in rules if any(may_begin(rule.rule, prefix) for prefix in prefixes)]
    for name in names:
        if any(_reaches(name, rule) for rule in below):
            continue
        if any(_reaches(name, rule) for rule in rules):
            where = " or ".join(prefixes)
            yield f"data endpoint {name!r} is not below {where} (SILO_API_PREFIX): requests there have no session"
            continue
        known = {rule.rule if "/" in name else rule.endpoint for rule in below}
        near = get_close_matches(name, sorted(known), 1)
        advice = f"did you mean {near[0]!r}?" if near else "'flask routes' lists them"
        yield f"data endpoint {name!r} matches no path, URL rule or endpoint of the application: {advice}"


def may_begin(rule: str, prefix: str) -> bool:
    """Return whether a path of a URL rule can begin with a prefix."""
    static = rule.partition("<")[0]
    return rule.startswith(prefix) or (static != rule and prefix.startswith(static))


def _reaches(name: str, rule: Rule) -> bool:
    """Return whether a request with this rule may match the name. True if that depends on the request."""
    if name in (rule.rule, rule.endpoint):
        return True
    static = rule.rule.partition("<")[0]
    if is_pattern(name):
        if any(re.match(translate(name), each) for each in (rule.rule, rule.endpoint)):
            return True
        begin = re.split(r"[*?[]", name, maxsplit=1)[0]
        return static != rule.rule and (begin.startswith(static) or static.startswith(begin)) and "/" in begin
    if CATCH_ALL.fullmatch(rule.rule):  # it matches every name, and would hide every mistake
        return False
    parts = re.split(r"(<[^>]*>)", rule.rule)
    path = "".join(".+" if part.startswith("<") else re.escape(part) for part in parts)
    return "<" not in name and re.fullmatch(path, name) is not None
