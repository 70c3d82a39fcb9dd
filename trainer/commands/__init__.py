"""The commands besides `train` and `launch`, one module each. May import every other part of `trainer`."""
