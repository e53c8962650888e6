"""Adapters: one file per outside system. Each is found by its entry point, and imports only `andon`."""
