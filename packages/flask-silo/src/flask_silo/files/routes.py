"""The routes that a file store may have, and their URL rules."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from werkzeug.routing import Rule

from ..request.endpoints import Target

ALL_ROUTES = ("list", "upload", "download", "delete", "link", "zip")
"""The names of all routes that a file store may have."""

FILES, FILE, ZIP = "flask_silo:files", "flask_silo:file", "flask_silo:zip"
LINK, LINKED = "flask_silo:link", "flask_silo:linked_file"

_IN_A_PATH = re.compile(r"[A-Za-z0-9_-]+")


def check_routes(name: str, routes: str | Collection[str]) -> frozenset[str]:
    """Return the names of the routes that the file store ``name`` is to have.

    Raises:
        TypeError: ``routes`` is something other than a str or a collection of str.
        ValueError: A name is not in ``ALL_ROUTES``, or the name of the store cannot be part of a path.
    """
    if not isinstance(routes, Collection):
        raise TypeError(f"routes takes names such as ('list', 'upload'), or flask_silo.ALL_ROUTES, not {routes!r}")
    wanted = frozenset([routes] if isinstance(routes, str) else routes)
    unknown = sorted(wanted.difference(ALL_ROUTES), key=repr)
    if unknown:
        raise ValueError(
            f"there is no route {unknown[0]!r} for files: choose among {', '.join(ALL_ROUTES)}, or give "
            "flask_silo.ALL_ROUTES"
        )
    if wanted and not _IN_A_PATH.fullmatch(name):
        raise ValueError(f"the name of a file store with routes has letters, digits, - and _ only, unlike {name!r}")
    return wanted


class StoreRules(NamedTuple):
    """The URL rules of one file store below one prefix. A rule without a method is not served.

    ======================  =======================================  =========  ===================
    path                    method: route                            endpoint   values
    ======================  =======================================  =========  ===================
    ``<base>``              GET: list, POST: upload                  ``FILES``  ``store``
    ``<base>/<name>``       GET: download, PUT: upload, DELETE       ``FILE``   ``store``, ``name``
    ``<base>/<name>/link``  POST: link                               ``LINK``   ``store``, ``name``
    ``<base>/link/<token>`` GET: link                                ``LINKED`` ``store``, ``token``
    ``<base>.zip``          GET: zip                                 ``ZIP``    ``store``
    ======================  =======================================  =========  ===================

    No file name contains a slash, and no name of a store a dot, so no path has two meanings: a file may be called
    "link", "zip" or "link.zip".
    """

    store: str
    files: Rule
    file: Rule
    link: Rule
    linked: Rule
    zip: Rule

    @classmethod
    def of(cls, store: str, base: str, routes: Collection[str]) -> StoreRules:
        """Return the rules of a file store.

        Args:
            store: The name of the store.
            base: The beginning of the paths, such as ``/api/files/uploads``.
            routes: The names of its routes.
        """

        def rule(end: str, endpoint: str, **methods: str) -> Rule:
            allowed = [method for method, route in methods.items() if route in routes]
            return Rule(
                base + end,
                endpoint=endpoint,
                methods=[*allowed, "OPTIONS"] if allowed else [],
                defaults={"store": store},
                build_only=True,
            )

        return cls(
            store,
            rule("", FILES, GET="list", POST="upload"),
            rule("/<name>", FILE, GET="download", PUT="upload", DELETE="delete"),
            rule("/<name>/link", LINK, POST="link"),
            rule("/link/<token>", LINKED, GET="link"),
            rule(".zip", ZIP, GET="zip"),
        )

    def served(self) -> Iterator[Rule]:
        """Yield the rules that have a method."""
        return (rule for rule in self[1:] if rule.methods)

    def find(self, method: str, rest: str) -> Target | None:
        """Return the endpoint of the path that has ``rest`` behind the base; None if there is none."""
        rule, values = self.file, {"name": rest[1:]}
        if rest in ("", "/"):
            rule, values = self.files, {}
        elif rest == ".zip":
            rule, values = self.zip, {}
        elif not rest.startswith("/"):  # another store, whose name begins with that of this one
            return None
        elif self.link.methods and method in ("POST", "OPTIONS") and len(rest) > 6 and rest.endswith("/link"):
            rule, values = self.link, {"name": rest[1:-5]}
        elif self.linked.methods and method in ("GET", "HEAD", "OPTIONS") and rest.startswith("/link/"):
            rule, values = self.linked, {"token": rest[6:]}
        return Target(rule, {"store": self.store, **values}) if rule.methods else None
