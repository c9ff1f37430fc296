-- Which consumer has handled which event. A consumer inserts the event's id in the same transaction
-- as its own change, so that an event that is delivered again changes nothing.
--
--   event_id      the event's id, as in the envelope and in the header eventId
--   consumer      who has handled it: each consumer handles every event once
--   processed_at  when; rows are removed by their age
CREATE TABLE IF NOT EXISTS public.inbox (
    event_id     text        NOT NULL,
    consumer     text        NOT NULL,
    processed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, event_id)
);

-- Old rows are found by it. New ones go to its last page.
CREATE INDEX IF NOT EXISTS inbox_processed_at ON public.inbox (processed_at);

-- Claims an event: true if the consumer has not handled it yet, and handles it now, in the calling
-- transaction; false if it is a duplicate. If another transaction is about to handle it, this waits
-- for its end.
CREATE OR REPLACE FUNCTION public.inbox_claim(consumer text, event_id text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.inbox (consumer, event_id)
    VALUES (inbox_claim.consumer, inbox_claim.event_id)
    ON CONFLICT ON CONSTRAINT inbox_pkey DO NOTHING;
    RETURN FOUND;
END
$$;
