-- Why: spread does not count the removed sets of a service. After the loss of a zone, each placement read all removed sets of the
-- tenant for each of its services with spread.
-- Locks: SHARE on sets while the index is built, which reads the table once: writes wait.
-- Rollback: drop the index. The previous release runs on this schema.
CREATE INDEX "sets_removing_service" ON "sets" USING btree ("service_id","host_id") WHERE desired = 'deleted' and host_id is not null;