"""Task stores, which keep the newest run of each task for other processes."""
