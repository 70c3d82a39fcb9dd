"""Annotation files: reading, checking and selecting what to train on. Imports the shared vocabulary of `pipeline`, and no other stage of it."""
