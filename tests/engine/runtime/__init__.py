"""The engine put together: events in, fragments out, leased, recalled, destroyed, explained."""
