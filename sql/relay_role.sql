-- The role of the relay. Streaming takes the REPLICATION attribute and nothing else. The sequence
-- tells it how many rows were written, for the backlog. Of the rows it sees the id and the state, and
-- changes the state: events it reads from the WAL. Without the last line, set write_back = "off".
CREATE ROLE outboxd LOGIN REPLICATION;
GRANT USAGE ON SCHEMA public TO outboxd;
GRANT SELECT ON SEQUENCE public.outbox_seq_seq TO outboxd;
GRANT SELECT (id, state), UPDATE (state, attempts, last_error) ON TABLE public.outbox TO outboxd;
