"""The tables, once for every database: each entry of `MIGRATIONS` takes a store from one version to the next.

``{json}`` is the database's type for JSON documents. A released migration is never changed; a change is a new entry.
"""

from __future__ import annotations

VERSION_TABLE = "CREATE TABLE store_version (version INTEGER NOT NULL)"

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE calls (
            call_id TEXT NOT NULL PRIMARY KEY,
            tenant TEXT,
            state TEXT NOT NULL CHECK (state IN ('live', 'complete', 'interrupted')),
            channels {json} NOT NULL,
            attributes {json} NOT NULL,
            duration_seconds DOUBLE PRECISION,
            started_ms BIGINT,
            sequence BIGINT NOT NULL
        )
        """,
        """
        CREATE TABLE segments (
            call_id TEXT NOT NULL,
            channel INTEGER NOT NULL,
            start_sample BIGINT NOT NULL,
            revision INTEGER NOT NULL,
            end_sample BIGINT NOT NULL,
            sample_rate_hz INTEGER NOT NULL,
            role TEXT NOT NULL,
            speaker TEXT NOT NULL,
            text TEXT NOT NULL,
            language TEXT,
            model TEXT NOT NULL,
            policy TEXT NOT NULL,
            words {json} NOT NULL,
            PRIMARY KEY (call_id, channel, start_sample)
        )
        """,
        """
        CREATE TABLE gaps (
            call_id TEXT NOT NULL,
            channel INTEGER NOT NULL,
            start_sample BIGINT NOT NULL,
            end_sample BIGINT NOT NULL,
            sample_rate_hz INTEGER NOT NULL,
            reason TEXT NOT NULL,
            PRIMARY KEY (call_id, channel, start_sample)
        )
        """,
        """
        CREATE TABLE degraded (
            call_id TEXT NOT NULL,
            stage TEXT NOT NULL,
            source_topic TEXT NOT NULL,
            source_partition INTEGER NOT NULL,
            source_offset BIGINT NOT NULL,
            reason TEXT NOT NULL,
            channel INTEGER NOT NULL,
            start_sample BIGINT NOT NULL,
            sample_rate_hz INTEGER NOT NULL,
            PRIMARY KEY (call_id, stage, source_topic, source_partition, source_offset)
        )
        """,
        """
        CREATE TABLE events (
            call_id TEXT NOT NULL,
            channel INTEGER NOT NULL,
            sequence BIGINT NOT NULL,
            kind TEXT NOT NULL,
            start_sample BIGINT NOT NULL,
            sample_rate_hz INTEGER NOT NULL,
            detail {json} NOT NULL,
            PRIMARY KEY (call_id, channel, sequence, kind)
        )
        """,
        "CREATE INDEX calls_by_start ON calls (started_ms)",
    ),
    (
        """
        CREATE TABLE coverage (
            call_id TEXT NOT NULL,
            channel INTEGER NOT NULL,
            start_sample BIGINT NOT NULL,
            end_sample BIGINT NOT NULL,
            sample_rate_hz INTEGER NOT NULL,
            kind TEXT NOT NULL,
            reason TEXT NOT NULL,
            PRIMARY KEY (call_id, channel, start_sample)
        )
        """,
    ),
    (
        """
        CREATE TABLE speakers (
            call_id TEXT NOT NULL,
            channel INTEGER NOT NULL,
            sequence BIGINT NOT NULL,
            speakers {json} NOT NULL,
            unknown_words BIGINT NOT NULL,
            corrected_words BIGINT NOT NULL,
            PRIMARY KEY (call_id, channel)
        )
        """,
    ),
)
