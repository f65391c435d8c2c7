"""Ingest: decode a recording feed, cut it into audio records, hand them to the producer."""
