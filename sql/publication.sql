-- What the relay reads. Only inserts: write-back and pruning then cost it nothing. Through the
-- root: a partitioned table keeps one name, whichever partition a row is in.
--
-- It must exist before the replication slot. `outboxd init --apply` makes both, in this order.
CREATE PUBLICATION outboxd FOR TABLE public.outbox
    WITH (publish = 'insert', publish_via_partition_root = true);
