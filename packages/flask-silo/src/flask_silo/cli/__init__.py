"""The commands of ``flask silo``: sessions, and a check of the set-up."""
