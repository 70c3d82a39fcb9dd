"""Commands that read record sets or measure the build: `info`, `preview`, benchmarks. May import every other part of `pipeline`."""
