-- The outbox table. A service inserts a row here in the same transaction as its own change; what
-- is committed reaches Kafka, what is rolled back never does.
--
--   id           the event's id, by which consumers recognise it
--   seq          counts insertions, so that the backlog is known without reading the table
--   event_type   such as transfers.settled; by default also the topic
--   transfer_id  what the event is about; events with the same one keep their order
--   payload      passed on unchanged
--   headers      further record headers, a flat object
--   state        written back by the relay, as are attempts and last_error
--
-- There is no index on state: nothing looks rows up by it, and without one the relay's updates stay
-- on the row's own page (HOT). The fill factor leaves them room there.
CREATE TABLE IF NOT EXISTS public.outbox (
    id          uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    seq         bigint      GENERATED ALWAYS AS IDENTITY,
    event_type  text        NOT NULL,
    transfer_id text,
    payload     jsonb       NOT NULL,
    headers     jsonb,
    state       text        NOT NULL DEFAULT 'PENDING'
                            CHECK (state IN ('PENDING', 'SENT', 'FAILED')),
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts    integer     NOT NULL DEFAULT 0,
    last_error  text
) WITH (fillfactor = 50);
