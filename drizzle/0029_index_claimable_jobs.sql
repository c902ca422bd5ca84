-- Why: each claim of due jobs read the parked rows, and those of jobs that a rollback removed: both stay at the head of the former
-- index for 14 days.
-- Locks: ACCESS EXCLUSIVE on outbox for an instant, then SHARE while the index of this small table is built: writes wait.
-- Rollback: create outbox_due on (due_at) again. The previous release runs on this schema, and sorts the due rows.
DROP INDEX "outbox_due";--> statement-breakpoint
CREATE INDEX "outbox_claimable" ON "outbox" USING btree ("name","due_at") WHERE attempts < 20;