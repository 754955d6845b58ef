"""How far a run has come: nested spans, loops, named steps, and the time left."""
