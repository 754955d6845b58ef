"""``Message``, which carries a run to a worker in another process."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

from ..errors import TaskError
from ..run.job import Job
from ..run.target import explain_call


class Message(NamedTuple):
    """The data with which a worker executes a run: plain values, and the arguments as the task queue carries them."""

    function: str
    """The function to import, as ``package.module:name``."""
    name: str
    """Name of the task."""
    owner: str
    """Owner of the task."""
    token: str
    """Identifies this run."""
    number: int
    """Number of the run, counted from 1."""
    timeout: float | None = None
    """Seconds that the run may take once it has begun; None for no limit."""
    max_logs: int = 1000
    """Number of log lines that are kept."""
    last_seq: int = 0
    """Number of the last log line of the previous run."""
    brings_store: bool = False
    """Whether the function has an ``open_store()``. A worker imports such a function before it claims the run."""
    public_errors: Sequence[str] = ()
    """Names of the exceptions whose text clients may read, as ``package.module:name``."""
    args: Sequence[Any] = ()
    """Positional arguments after the task."""
    kwargs: Mapping[str, Any] = {}
    """Keyword arguments."""

    @classmethod
    def of(cls, head: Mapping[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Message:
        """Return the message from a ``head()`` and the arguments. Keys that a newer release has added are ignored."""
        known = {name: head[name] for name in cls._fields if name in head}
        return cls(**known, args=args, kwargs=kwargs)

    def __repr__(self) -> str:
        # Without the arguments, which may hold secrets.
        return f"<Message of task {self.name!r}, run {self.number}>"

    def head(self) -> dict[str, Any]:
        """Return everything but the arguments and what has its default, as plain values."""
        values = zip(self._fields[:-2], self[:-2], strict=True)
        return {name: value for name, value in values if value != self._field_defaults.get(name)}


def message_of(job: Job) -> Message:
    """Return the message for a job.

    Raises:
        TaskError: A worker cannot import the function.
    """
    return Message(
        reference(job.function),
        job.name,
        job.owner,
        job.token,
        job.number,
        job.timeout,
        job.max_logs,
        job.last_seq,
        hasattr(job.function, "open_store"),
        sorted(job.public_errors) or (),
        job.args,
        job.kwargs,
    )


def reference(function: Callable[..., Any]) -> str:
    """Return the name by which another process imports a function, as ``package.module:name``.

    Raises:
        TaskError: The function is not at the top level of a module that can be imported.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if module == "__main__":
        raise TaskError(
            f"{name} is defined in the script that was started, which a worker cannot import: put it into a module"
        )
    where = f"{module}:{name}"
    try:
        found = resolve(where)
    except (ImportError, AttributeError):
        found = None
    if found is not function:
        raise TaskError(
            f"{function!r} cannot be imported as {where}: a worker needs a function of a module's top level"
        )
    return where


def resolve(where: str) -> Callable[..., Any]:
    """Import the function that ``reference()`` named.

    Raises:
        ImportError: The module does not exist.
        AttributeError: The module has no such function.
    """
    module, _, name = where.partition(":")
    found: Callable[..., Any] = reduce(getattr, name.split("."), importlib.import_module(module))  # type: ignore[assignment]
    return found


def check(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    dumps: Callable[[Any], bytes],
    given: int = 1,
) -> dict[str, int]:
    """Check that a call can be sent, and return the bytes that each of its arguments takes.

    Args:
        function: The function to call.
        args: Positional arguments.
        kwargs: Keyword arguments.
        dumps: Serialises one argument.
        given: Number of arguments that the worker puts before these: 1, the task.

    Raises:
        TypeError: An argument does not fit the function or cannot be sent; the message names it.
    """
    sizes = {}
    for name, value in named(function, args, kwargs, given):
        try:
            sizes[name] = len(dumps(value))
        except Exception as error:
            raise TypeError(f"argument {name!r} cannot be sent to a worker: {error}") from error
    return sizes


def named(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], given: int = 1
) -> Iterator[tuple[str, Any]]:
    """Yield each argument with its name, as in ``rows``, ``files[2]`` of ``*files``, or ``how`` of ``**options``.

    Args:
        function: The function to call.
        args: Positional arguments.
        kwargs: Keyword arguments.
        given: Number of arguments before these: 1, the task.

    Raises:
        TypeError: The arguments do not fit the function; the message says why.
    """
    try:
        signature = inspect.signature(function)
    except ValueError:  # some builtin functions have no signature
        yield from ((f"args[{i}]", each) for i, each in enumerate(args))
        yield from kwargs.items()
        return
    try:
        bound = signature.bind(*[None] * given, *args, **kwargs).arguments
    except TypeError as error:
        raise TypeError(explain_call(function, error, given)) from None
    for number, (name, value) in enumerate(bound.items()):
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            yield from value.items()
        elif kind is inspect.Parameter.VAR_POSITIONAL:
            start = max(given - number, 0)
            yield from ((f"{name}[{i - start}]", each) for i, each in enumerate(value) if i >= start)
        elif number >= given:
            yield name, value
