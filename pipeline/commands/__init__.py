"""Commands that inspect record sets (`info`, `preview`) or measure the build (`bench-build`, `bench-plan`). May import every other
part of `pipeline`; `config` holds their options and imports nothing heavy."""
