"""Where sessions can be kept: `memory`, `sqlite` and `redis` implement `silo_store.backend.Backend`.

`urls` chooses one by its URL. Of the others, `expiry` and `packing` serve several backends; `sqlitefile`,
`sqlitecheck`, `filelocks` and `mounts` serve `sqlite`.
"""
