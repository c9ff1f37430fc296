-- The role of an operator who may ask for replays, and for what is to become of dead letters. Who asked
-- and when can't be forged: those columns can't be given.
GRANT USAGE ON SCHEMA public TO operator;
GRANT USAGE ON SCHEMA outboxd TO operator;
GRANT SELECT ON TABLE public.outbox TO operator;
GRANT SELECT ON TABLE outboxd.control TO operator;
GRANT INSERT (request_id, slot, reason, command) ON TABLE outboxd.control TO operator;
GRANT SELECT, INSERT ON TABLE outboxd.feed_rows TO operator;
