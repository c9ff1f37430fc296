-- Writes an event, for callers in any language: SELECT outbox_emit('transfers.settled', 'tr-1',
-- '{"amount_cents": 1250}'). To be called in the transaction that the event tells of. It runs with the
-- caller's rights, who needs INSERT on the table. Returns the event's id.
--
--   type         the event type, such as transfers.settled
--   transfer_id  what the event is about, or NULL; events with the same one keep their order
--   payload      passed on unchanged
--   headers      further record headers, a flat object, or NULL
--   event_id     the event's id, where the caller has made one; else it is made here
CREATE OR REPLACE FUNCTION public.outbox_emit(
    type        text,
    transfer_id text,
    payload     jsonb,
    headers     jsonb DEFAULT NULL,
    event_id    uuid  DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql
-- Whatever schemas the caller looks in, the functions below are those of Postgres.
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    -- UUIDv7: 48 bits of milliseconds, the version, random bits (RFC 9562, section 5.7).
    milliseconds bytea := substring(int8send(
        floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3);
    random_bits bytea := uuid_send(gen_random_uuid());
    id uuid := coalesce(event_id, encode(set_bit(set_bit(
        overlay(random_bits PLACING milliseconds FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid);
BEGIN
    IF coalesce(type, '') = '' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'outbox_emit: type is empty';
    END IF;
    IF payload IS NULL THEN
        RAISE invalid_parameter_value USING MESSAGE = 'outbox_emit: payload is NULL',
            HINT = 'For an event without a payload, give ''null''::jsonb.';
    END IF;
    IF headers IS NOT NULL AND jsonb_typeof(headers) <> 'object' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'outbox_emit: headers is not a JSON object';
    END IF;
    INSERT INTO public.outbox (id, event_type, transfer_id, payload, headers)
        VALUES (id, type, transfer_id, payload, headers);
    RETURN id;
END
$function$;
