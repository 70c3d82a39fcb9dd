"""The command `build`: plan ranges of images, make their shards in workers, publish the record set. Imports every other part of
`pipeline` except `commands` and `synthetic`."""
