"""A running command: its processes, signals, output streams, progress and time. Imports `pipeline.errors` and `pipeline.wording`."""
