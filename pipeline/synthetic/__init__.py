"""Drawn people: a COCO-format data set made from nothing. Imports the shared vocabulary of `pipeline`."""
