-- The role of a service that writes events. It can't read, change or remove what it has written.
GRANT USAGE ON SCHEMA public TO service;
GRANT INSERT ON TABLE public.outbox TO service;
