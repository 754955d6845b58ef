"""One run of a task: how it begins, ends, is stopped, and how other processes see it."""
