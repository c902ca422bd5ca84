-- Why: a report that changes a set's state, or a lease that is renewed, rewrote every index entry of its row; now such updates
-- touch no index (HOT), as far as the page has room, which the fill factors keep. The index on pending sets is in the
-- order in which they are planned. Locks: SHARE on sets while the index is built, so writes wait; it holds pending sets
-- only. Fill factors count for pages written from now on. Rollback: the index as it was, and fillfactor = 100.
DROP INDEX "sets_pending";--> statement-breakpoint
CREATE INDEX "sets_pending" ON "sets" USING btree ("priority" DESC NULLS FIRST,"id") WHERE host_id is null and deleted_at is null;--> statement-breakpoint
ALTER TABLE "sets" SET (fillfactor = 75);--> statement-breakpoint
ALTER TABLE "hosts" SET (fillfactor = 50);
