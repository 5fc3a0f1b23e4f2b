"""One store over several shards: events routed by pseudonym, persons moved to where they are linked."""
