-- Why: the index also served the due sets of one tenant. While the statistics showed few pending sets, the planner chose it for
-- each tenant, and a placement after the loss of many hosts read all due sets for each of thousands of tenants.
-- Locks: ACCESS EXCLUSIVE on sets while the index is built, which reads the table once: statements wait.
-- Rollback: drop sets_pending_due and create it without the condition on desired. The previous release runs on this schema: its
-- search for due sets also excludes deleted ones, but its retries after new capacity sort all pending sets.
DROP INDEX "sets_pending_due";--> statement-breakpoint
CREATE INDEX "sets_pending_due" ON "sets" USING btree ("plan_after") WHERE host_id is null and deleted_at is null and desired <> 'deleted';