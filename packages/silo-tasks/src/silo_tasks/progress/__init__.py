"""The progress of a run: nested spans, loops, named steps, and the time left."""
