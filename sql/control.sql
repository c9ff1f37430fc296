-- What operators ask of the relay, in the database that it serves. Both tables stay small.
CREATE SCHEMA outboxd;

-- Requests. A row is inserted and never changed: it reaches the relay through the WAL, in its place
-- among the events, and is the record of who asked for what, when and why.
--
--   slot         the replication slot of the relay that is meant: a database may be served by several
--   command      such as {"command": "dlq-replay", "filter": {}}
CREATE TABLE outboxd.control (
    request_id   uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    requested_at timestamptz NOT NULL DEFAULT now(),
    requested_by text        NOT NULL DEFAULT session_user,
    slot         text        NOT NULL,
    reason       text        NOT NULL,
    command      jsonb       NOT NULL
);

-- Rows to be published besides the stream, in the order of their ordinals: by a backfill, a repair
-- or a replay. The relay deletes those of a request that is done; it stops if any is gone before.
--
--   slot         the replication slot of the relay that publishes them
--   table_name   schema and table, such as public.outbox
--   row_id       the text form of the row's id
CREATE TABLE outboxd.feed_rows (
    request_id uuid   NOT NULL,
    slot       text   NOT NULL,
    ordinal    bigint NOT NULL,
    table_name text   NOT NULL,
    row_id     text   NOT NULL,
    PRIMARY KEY (request_id, ordinal)
);

-- Requests reach the relay through the publication.
ALTER PUBLICATION outboxd ADD TABLE outboxd.control;

-- The relay reads the rows that it publishes besides the stream, and removes what is done.
GRANT USAGE ON SCHEMA outboxd TO outboxd;
GRANT SELECT ON TABLE outboxd.control TO outboxd;
GRANT SELECT, INSERT, DELETE ON TABLE outboxd.feed_rows TO outboxd;
GRANT SELECT ON TABLE public.outbox TO outboxd;
