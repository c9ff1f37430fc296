-- What the example consumers work on, beside the table of sql/inbox.sql. No constraint keeps an event
-- from being entered twice: that is for the inbox.
CREATE TABLE ledger_entries (
    consumer     text   NOT NULL,
    event_id     text   NOT NULL,
    transfer_id  text,
    amount_cents bigint NOT NULL
);
