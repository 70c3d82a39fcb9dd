"""The command `build`: plans image ranges, makes their shards in workers, publishes the record set. Imports every other part of `pipeline` but the commands."""
