-- Every statement whose replication messages are stored in the fixtures.
-- Run by capture.sh in an empty database of a server with wal_level = logical
-- and max_prepared_transactions > 0, as a superuser.
\set ON_ERROR_STOP on

CREATE TYPE order_state AS ENUM ('open', 'paid');
CREATE DOMAIN email AS text CHECK (VALUE LIKE '%@%');
CREATE TYPE amount AS (minor bigint, currency text);

CREATE TABLE all_types (
    c_int4 int PRIMARY KEY,
    c_bool bool, c_bytea bytea, c_int2 smallint, c_int8 bigint,
    c_float4 real, c_float8 double precision, c_numeric numeric(12, 2),
    c_text text, c_varchar varchar(20), c_bpchar char(5), c_name name,
    c_uuid uuid, c_json json, c_jsonb jsonb,
    c_date date, c_time time, c_timetz timetz, c_timestamp timestamp,
    c_timestamptz timestamptz, c_interval interval,
    c_inet inet, c_bit bit(3), c_oid oid, c_char "char", c_xml xml,
    c_int4_array int[], c_text_array text[], c_range int4range,
    c_aclitem aclitem,
    c_enum order_state, c_domain email, c_composite amount
);
CREATE TABLE outbox (id int PRIMARY KEY, event_type text NOT NULL, payload text);
ALTER TABLE outbox ALTER payload SET STORAGE EXTERNAL;
CREATE TABLE audit_log (id int, note text);
ALTER TABLE audit_log REPLICA IDENTITY FULL;
CREATE TABLE no_columns ();
CREATE SCHEMA "Zahlung";
CREATE TABLE "Zahlung"."Überweisung, neu" ("Prüf""wert" int);
CREATE TABLE measured (id int, day date) PARTITION BY RANGE (day);
CREATE TABLE measured_2024 PARTITION OF measured
    FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');

CREATE PUBLICATION golden FOR ALL TABLES;
SELECT pg_replication_origin_create('upstream') \g /dev/null
SELECT pg_create_logical_replication_slot('golden', 'pgoutput') \g /dev/null

-- Relation and Type messages, a value of each type, then all NULL.
INSERT INTO all_types VALUES (
    1, true, '\x00ff10', -2, 9007199254740993, 1.5, -0.25, 1234.50,
    E'tab\tand "ü€😀"', 'varying', 'ch', 'a_name',
    '0190a5e4-7d3c-7a61-9d0b-5f0d3c1a2b3c', '{"b": 1, "a": [null]}', '{"b": 1, "a": [null]}',
    '2024-02-29', '23:59:59.999999', '04:05:06+02', '2024-02-29 12:00:00.5',
    '2024-02-29 12:00:00.5+00', '1 mon 2 days 03:04:05',
    '10.1.2.0/24', B'101', 4294967295, 'c', '<a/>',
    '{1,NULL,3}', '{"a,b",NULL,""}', '[1,5)',
    makeaclitem(10, 10, 'SELECT', false),
    'paid', 'a@example.org', ROW(1999, 'EUR'));
INSERT INTO all_types (c_int4) VALUES (2);
INSERT INTO all_types (c_int4, c_text, c_bytea) VALUES (3, '', '');

-- A value stored out of line arrives whole in an INSERT and as "unchanged" in an UPDATE.
INSERT INTO outbox VALUES (1, 'order.created', repeat('0123456789abcdef', 132));
UPDATE outbox SET event_type = 'order.paid' WHERE id = 1;

-- One transaction: rows of one statement, rows of COPY (one WAL record), a rolled-back savepoint.
BEGIN;
INSERT INTO outbox VALUES (2, 'a', NULL), (3, 'b', 'p'), (4, 'c', '');
SAVEPOINT undone;
INSERT INTO outbox VALUES (5, 'never seen', NULL);
ROLLBACK TO undone;
COPY outbox FROM STDIN;
6	d	\N
7	e	q
8	f	r
\.
COMMIT;

-- Old row as replica identity key, as whole row, and none.
UPDATE outbox SET id = 9 WHERE id = 8;
DELETE FROM outbox WHERE id = 9;
INSERT INTO audit_log VALUES (1, 'x');
UPDATE audit_log SET note = 'y';
DELETE FROM audit_log;

-- Truncate: with both options, of two tables.
BEGIN;
TRUNCATE audit_log;
TRUNCATE outbox, audit_log RESTART IDENTITY CASCADE;
COMMIT;

-- Logical messages: transactional, not transactional, not transactional in an aborted transaction.
BEGIN;
SELECT pg_logical_emit_message(true, 'outbox', 'inside') \g /dev/null
SELECT pg_logical_emit_message(false, 'heartbeat', '') \g /dev/null
INSERT INTO outbox VALUES (10, 'after message', NULL);
SELECT pg_logical_emit_message(true, '', '\x00ff'::bytea) \g /dev/null
COMMIT;
BEGIN;
INSERT INTO outbox VALUES (11, 'never seen', NULL);
SELECT pg_logical_emit_message(true, 'outbox', 'never seen') \g /dev/null
SELECT pg_logical_emit_message(false, 'outbox', 'of an aborted transaction') \g /dev/null
ROLLBACK;

-- A table that changes in the middle of the stream, also inside a transaction.
INSERT INTO outbox VALUES (12, 'before', NULL);
ALTER TABLE outbox ADD COLUMN headers jsonb;
INSERT INTO outbox VALUES (13, 'added', NULL, '{"k": "v"}');
BEGIN;
INSERT INTO outbox VALUES (14, 'same transaction', NULL, NULL);
ALTER TABLE outbox RENAME COLUMN event_type TO kind;
INSERT INTO outbox VALUES (15, 'renamed', NULL, NULL);
ALTER TABLE outbox DROP COLUMN payload;
INSERT INTO outbox VALUES (16, 'dropped', NULL);
COMMIT;
ALTER TABLE outbox RENAME TO outbox_archive;
INSERT INTO outbox_archive VALUES (17, 'table renamed', NULL);

-- Names: other schema, not ASCII, with a comma and a quote; no column at all; a partition.
INSERT INTO "Zahlung"."Überweisung, neu" VALUES (1);
INSERT INTO no_columns DEFAULT VALUES;
INSERT INTO measured VALUES (1, '2024-06-01');

-- A transaction that was replicated from elsewhere.
SELECT pg_replication_origin_session_setup('upstream') \g /dev/null
BEGIN;
SELECT pg_replication_origin_xact_setup('A/BCDEF012', '2024-01-02 03:04:05+00') \g /dev/null
INSERT INTO audit_log VALUES (2, 'from upstream');
COMMIT;
SELECT pg_replication_origin_session_reset() \g /dev/null

-- A prepared transaction arrives where it was committed.
BEGIN;
INSERT INTO audit_log VALUES (3, 'prepared first');
PREPARE TRANSACTION 'golden';
INSERT INTO audit_log VALUES (4, 'committed first');
COMMIT PREPARED 'golden';
