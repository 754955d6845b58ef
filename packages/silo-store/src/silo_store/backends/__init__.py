"""Where sessions can be kept: `memory`, `sqlite` and `redis` implement `silo_store.backend.Backend`.

`urls` chooses one by its URL. `packing` lays out what SQLite and Redis keep.
"""
