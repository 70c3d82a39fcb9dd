"""The commands besides `train` and `launch`, one module each; `config` holds the options of those that are heavy to import.

May import every other part of `trainer`.
"""
