-- Why: near its quota, a tenant's sets that are deleted on lost hosts do not count. Without the index the sum read all sets of all
-- lost hosts, under the locks of the service and the tenant.
-- Locks: SHARE on sets while the index is built, which reads the table once: writes wait.
-- Rollback: drop the index. The previous release runs on this schema.
CREATE INDEX "sets_removing" ON "sets" USING btree ("tenant_id","host_id") WHERE desired = 'deleted' and host_id is not null;