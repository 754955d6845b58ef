"""Releases of single packages: planned, checked, prepared, built, tested as built and rehearsed. See RELEASING.md."""
