-- Why: a report of unknown sets begins a wait for the addresses of its host at most once an hour, and only for its networks. After
-- a restore, Berth waits for all hosts. The new column is null for a wait that has begun before, so that one ends as it did.
-- Locks: ACCESS EXCLUSIVE on hosts for an instant. It rewrites no row.
-- Rollback: drop the column. The previous release runs on this schema.
ALTER TABLE "hosts" ADD COLUMN "addresses_awaited_since" timestamp with time zone;