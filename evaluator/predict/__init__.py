"""The command `predict`: people in images and videos. Imports inference and drawings."""
