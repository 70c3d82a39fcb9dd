"""Commands beside training: `info`, `plot`, `simulate`, benchmarks. May import every other part of `trainer`."""
