"""Sessions on a Redis or Valkey server, for many hosts.

=============== ====================================================================
``backend``     ``RedisBackend``, the methods of the interface
``claims``      the claims of this process on sessions
``prefix``      runs scripts on the keys of one prefix, and notices when all records are lost
``holds``       keeps lives from expiring
``scripts``     the Lua scripts, each one atomic step on the server
``lua``         what the scripts share
``keys``        the names of the keys, and what each holds
``records``     records and namespaces as the server keeps them
``connections`` connections to the server, and sending commands
``location``    where the server is, read from a URL
``keeper``      renews claims and holds, so that the server does not drop them
``health``      checks of the server for operators
=============== ====================================================================
"""

from .backend import RedisBackend

__all__ = ["RedisBackend"]
