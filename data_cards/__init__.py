"""Data cards: contents, origin and licenses of source data sets and record sets.

Holds the cards of the source data sets (*.md), writes the card of a record set (`record_cards`: CARD.md, croissant.json, pictures/),
compares record sets, and shows what a network has learned from. May import `pipeline`, which reads record sets, and `trainer.run`, which reads
checkpoints.
"""
