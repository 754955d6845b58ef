"""Where sessions can be kept. Each module here implements `silo_store.backend.Backend`."""
