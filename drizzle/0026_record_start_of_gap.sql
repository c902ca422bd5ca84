-- Why: without a host that syncs, missing syncs prove nothing, so the failover sweep marks no host lost. After five minutes it
-- marks them all the same, so that a dead host is visible. It stores when the gap started, as each round may run in another process.
-- Locks: ACCESS EXCLUSIVE on fleet_watch for an instant. The table has one row, and the column has no default.
-- The previous release runs on this schema: it ignores the column.
-- Rollback: drop the column.
ALTER TABLE "fleet_watch" ADD COLUMN "gap_started_at" timestamp with time zone;