"""Resumable evaluation jobs: `run`, `merge`, `watch`. Imports inference, metrics and drawings."""
