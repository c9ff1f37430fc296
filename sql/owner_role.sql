-- The owner of table, publication and schema outboxd: migrations and `outboxd init` are run as this role
-- once the other roles exist. It is no superuser, streams nothing and sees nothing of other schemas.
CREATE ROLE outbox_owner LOGIN;
GRANT CREATE ON DATABASE app TO outbox_owner;
GRANT USAGE, CREATE ON SCHEMA public TO outbox_owner;
