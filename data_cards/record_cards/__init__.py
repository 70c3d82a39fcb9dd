"""The card of a record set: its facts, statistics, charts, text and Croissant. Imports `data_cards.sources` and `pipeline`."""
