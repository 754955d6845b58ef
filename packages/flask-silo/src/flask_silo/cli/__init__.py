"""``flask silo``: sessions, and a look at how an application uses Silo, at the command line."""
