-- Why: each rotation of a token created a further valid token, with a lifetime that the former rotation had shortened. The
-- token now names its successor, and a second rotation is refused. Tokens that were rotated before this migration name none.
-- Locks: ACCESS EXCLUSIVE on tokens for an instant. The column has no default, so no row is written.
-- The previous release runs on this schema: it ignores the column.
-- Rollback: drop the column.
ALTER TABLE "tokens" ADD COLUMN "successor_id" text;