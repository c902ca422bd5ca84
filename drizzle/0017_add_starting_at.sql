-- Why: a set that is in `starting` for long is in its host's measurement, and its whole booking must not count on top of it.
-- Locks: ACCESS EXCLUSIVE on sets for a moment; nothing is rewritten. The previous release ignores the column.
-- Rollback: drop the column.
ALTER TABLE "sets" ADD COLUMN "starting_at" timestamp with time zone;