"""A thread that sweeps a store at intervals."""

from __future__ import annotations

import logging
import threading
import weakref

from .fork import reset_after_fork
from .ranges import check_seconds
from .store import SessionStore

logger = logging.getLogger("silo_store")


class CleanupDaemon:
    """Calls ``SessionStore.cleanup`` at intervals, in a daemon thread.

    Args:
        store: The store to sweep. The thread ends once the application has dropped it.
        interval: Seconds between two sweeps; the store's ``cleanup_interval`` by default.

    Raises:
        ValueError: ``interval`` is not positive, or too long to wait for.
        TypeError: It is not a number.
    """

    def __init__(self, store: SessionStore, interval: float | None = None) -> None:
        if interval is not None:
            check_seconds("interval", interval, is_positive=True, is_waited=True)
        self._store = store
        self._interval = interval
        self._after_fork()
        reset_after_fork(self)

    def _after_fork(self) -> None:
        """Begin without a thread: the first ``start`` in the child creates one."""
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def start(self) -> None:
        """Start the thread, unless it is running."""
        with self._guard:
            if self._thread is None or not self._thread.is_alive():
                self._stop = threading.Event()
                args = (weakref.ref(self._store), self._interval, self._stop)
                self._thread = threading.Thread(target=_sweep, args=args, name="silo-cleanup", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Stop the thread, and wait up to 5 seconds for it to end. Does nothing if it is not running."""
        with self._guard:
            thread, self._thread = self._thread, None
            self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5)

    @property
    def running(self) -> bool:
        """Whether the thread is alive."""
        thread = self._thread
        return thread is not None and thread.is_alive()


def _sweep(reference: weakref.ref[SessionStore], interval: float | None, stop: threading.Event) -> None:
    """Sweep until ``stop`` is set, or until the store is garbage collected."""
    while (store := reference()) is not None:
        wait = interval if interval is not None else store.cleanup_interval
        del store
        if stop.wait(wait):
            return
        store = reference()
        if store is not None:
            _sweep_once(store)


def _sweep_once(store: SessionStore) -> None:
    try:
        expired = store.cleanup()
    except Exception:
        logger.exception("sweep failed; the next one follows after the interval")
    else:
        if expired:
            logger.info("%d sessions expired", len(expired))
