-- Why: if many hosts of a pool fail their self test together, the planner ignores the failures (I12). Each refresh of a
-- planner counts them, so the count must not read all hosts.
-- Locks: SHARE on hosts for an instant; they are at most some thousands of rows. Rollback: drop the index. The previous
-- release runs on this schema.
CREATE INDEX "hosts_self_test_failed" ON "hosts" USING btree ("pool") WHERE capabilities->'selfTest'->>'state' = 'failed';