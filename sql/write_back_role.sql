-- The role that writes the states of rows back, where the one that streams shall not
-- (postgres.write_back_user). Of the rows it sees the id and the state, and changes the state; it can't
-- stream, insert or read what a row says.
CREATE ROLE outboxd_write_back LOGIN;
GRANT USAGE ON SCHEMA public TO outboxd_write_back;
GRANT SELECT (id, state), UPDATE (state, attempts, last_error) ON TABLE public.outbox TO outboxd_write_back;
