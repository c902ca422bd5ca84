-- Why: only a policy that names the data loss replaces a set with a volume (I13). Services that have a volume and the former
-- default get `wait`, which is how `replace` behaves for them from now on.
-- Locks: ACCESS EXCLUSIVE on services while the check reads it. The previous release runs on: it treats the new policy as `wait`.
-- Rollback: set `replace-without-data` to `wait`, then restore the former check.
ALTER TABLE "services" DROP CONSTRAINT "services_on_host_lost_known";--> statement-breakpoint
ALTER TABLE "services" ADD CONSTRAINT "services_on_host_lost_known" CHECK ("services"."on_host_lost" in ('replace', 'wait', 'replace-without-data'));--> statement-breakpoint
UPDATE services SET on_host_lost = 'wait' FROM revisions r
WHERE r.service_id = services.id AND r.number = services.revision AND services.on_host_lost = 'replace'
  AND jsonb_typeof(r.template->'volume') = 'object';
