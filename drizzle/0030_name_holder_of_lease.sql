-- Why: the expiry identified the claim of a lease. A renewal whose answer was lost had changed it, so the holder could neither
-- renew nor release its lease. A claim now has an id.
-- Locks: ACCESS EXCLUSIVE on sweep_turns for an instant. The table has a few rows, and the column has no default.
-- The previous release runs on this schema: it ignores the column. Its claims leave the holder of the claim before.
-- Rollback: drop the column.
ALTER TABLE "sweep_turns" ADD COLUMN "holder" text;