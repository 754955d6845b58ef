"""The applications that a ``Silo`` serves in this process."""

from __future__ import annotations

import weakref

from flask import Flask

BINDING = "flask_silo.binding"
"""The key of a ``Binding`` in its application's extensions."""

served: weakref.WeakSet[Flask] = weakref.WeakSet()
"""All of them, for a task that another process has sent."""
