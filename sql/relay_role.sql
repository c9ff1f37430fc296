-- The role of the relay. Streaming takes the REPLICATION attribute and nothing else: it has no
-- rights on the rows. The sequence tells it how many rows were written, for the backlog.
CREATE ROLE outboxd LOGIN REPLICATION;
GRANT USAGE ON SCHEMA public TO outboxd;
GRANT SELECT ON SEQUENCE public.outbox_seq_seq TO outboxd;
