"""Public data replayed through mappings, intake and shard, each set against a recount in polars."""
