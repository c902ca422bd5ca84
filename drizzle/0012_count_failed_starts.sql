-- Why: each release of a set that failed to start was room gained for all that wait, itself among them: it was tried again every second or two
-- for ever, whatever its backoff. Room gained is for those that wait for room, and this tells them apart.
-- Locks: ACCESS EXCLUSIVE on sets for a moment (a constant default rewrites nothing). Rollback: drop the column.
ALTER TABLE "sets" ADD COLUMN "failed_starts" integer DEFAULT 0 NOT NULL;