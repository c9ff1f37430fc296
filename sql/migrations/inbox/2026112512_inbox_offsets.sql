-- How far a consumer has handled each partition, for consumers that store their offsets here instead
-- of the ids of events: in the same transaction as their own change.
--
--   next_offset  everything below it is handled
CREATE TABLE IF NOT EXISTS public.inbox_offsets (
    consumer     text    NOT NULL,
    topic        text    NOT NULL,
    partition_id integer NOT NULL,
    next_offset  bigint  NOT NULL,
    PRIMARY KEY (consumer, topic, partition_id)
);
