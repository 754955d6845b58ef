"""The drawing of a run on a terminal."""
