"""Sessions on a Redis or Valkey server, for many hosts.

======================= ==============================================================
`backend`               `RedisBackend`: the seam's methods
`scripts`               what the server does in one go, in Lua, and where all keys are
`connections`           talking to the server
`location`              where the server is, read from a URL
`keeper`                what must be renewed lest the server think this process dead
`health`                what an operator should know of the server
======================= ==============================================================
"""

from .backend import RedisBackend

__all__ = ["RedisBackend"]
