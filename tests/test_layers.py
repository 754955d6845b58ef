"""Imports go one way, within each package and between the packages."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

PACKAGES = Path(__file__).parents[1] / "packages"
SMALL = ["silo_store", "silo_tasks", "silo_files"]
EACH = pytest.mark.parametrize("package", [*SMALL, "flask_silo"])
SUBMODULES = ["errors", "testing", "console", "runners.queue", "runners.rq", "runners.celery", "stores.redis"]
"""Modules that are public beside what a package exports."""


class Module:
    """The source of a module.

    Attributes:
        name: With its package, such as ``silo_store.store``.
        tree: Its syntax tree.
    """

    def __init__(self, path: Path, source: Path) -> None:
        parts = path.relative_to(source).with_suffix("").parts
        self.folder = parts[:-1]
        self.name = ".".join(self.folder if path.stem == "__init__" else parts)
        self.tree = ast.parse(path.read_text("utf-8"), str(path))

    def imports(self, *, types: bool = True) -> Iterator[str]:
        """Yield the full name of all that is imported anywhere, unless ``types`` is false and it is for types only."""
        for node in ast.walk(self.tree) if types else _at_run_time(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                above = self.folder[: len(self.folder) + 1 - node.level] if node.level else ()
                start = ".".join([*above, *filter(None, [node.module])])
                yield from (f"{start}.{alias.name}" for alias in node.names)


def _at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that are not under ``if TYPE_CHECKING:``."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")):
            yield from _at_run_time(child)


def modules_of(package: str) -> dict[str, Module]:
    """The modules of a package, by name."""
    source = PACKAGES / package.replace("_", "-") / "src"
    found = (Module(path, source) for path in (source / package).rglob("*.py"))
    return {module.name: module for module in found}


def graph_of(package: str) -> dict[str, set[str]]:
    """What each module imports of its package. Imports for types count too, except in flask-silo."""
    modules = modules_of(package)
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for name, module in modules.items():
        for full in module.imports(types=package != "flask_silo"):
            while full and full not in modules:  # a name, not a module
                full = full.rpartition(".")[0]
            if full:
                graph[name].add(full)
    return graph


@EACH
def test_no_import_goes_in_a_circle(package: str) -> None:
    graph = graph_of(package)
    circle: list[str] = []
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1]
    assert not circle, " is imported by ".join(circle)


@pytest.mark.parametrize("package", SMALL)
def test_small_packages_need_neither_each_other_nor_flask(package: str) -> None:
    others = {"flask", "werkzeug", "flask_silo", *SMALL} - {package}
    for name, module in modules_of(package).items():
        assert not others & {full.partition(".")[0] for full in module.imports()}, name


def test_flask_silo_uses_what_the_others_offer() -> None:
    submodules = {f"{package}.{inner}" for package in SMALL for inner in SUBMODULES}
    offered = submodules | set(SMALL)
    offered |= {f"{package}.{name}" for package in SMALL for name in import_module(package).__all__}
    for name, module in modules_of("flask_silo").items():
        for full in module.imports():
            if full.partition(".")[0] in SMALL and full not in offered:
                inside = full.rpartition(".")[0]
                assert inside in submodules, f"{name} imports {full}"


@EACH
def test_modules_have_plain_names_and_import_their_own_package_relatively(package: str) -> None:
    for name, module in modules_of(package).items():
        assert not any(part.startswith("_") for part in name.split(".") if part != "__main__"), name
        nodes = list(ast.walk(module.tree))
        absolute = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
        absolute += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        assert package not in {full.partition(".")[0] for full in absolute}, name


@EACH
def test_the_logger_of_a_module_is_that_of_its_package(package: str) -> None:
    for name, module in modules_of(package).items():
        for node in module.tree.body:
            if isinstance(node, ast.Assign) and "getLogger" in (text := ast.unparse(node)):
                assert text == f"logger = logging.getLogger('{package}')", name


@EACH
def test_the_map_names_each_module(package: str) -> None:
    page = (PACKAGES.parent / ".github" / "ARCHITECTURE.md").read_text("utf-8")
    place = page[page.index("## Map") :]
    place = place[place.index(f"{package}/") :]
    place = place[: min(end for each in (*SMALL, "flask_silo", "```") if (end := place.find(f"\n{each}")) > 0)]
    for name in modules_of(package):
        folders = name.split(".")[1:]
        unfolded = [each for each in ("testing", "sqlite", "redis") if each in folders[:-1]]
        words = [word for word in unfolded or folders[-1:] if word != "fork"]  # the page says that each package has one
        assert all(f"{word}.py" in place or f"{word}/" in place for word in words), f"the map lacks {name}"
