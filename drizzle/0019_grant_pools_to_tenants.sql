-- Why: pools, tolerations, host labels and priorities were each tenant's own choice, so that any tenant got into a pool or past a taint
-- that an operator gave to another one. An admin grants them now. Existing tenants are granted what their services use.
-- Locks: ACCESS EXCLUSIVE on tenants while one read of services backfills. Rollback: drop the column.
ALTER TABLE "tenants" ADD COLUMN "grants" jsonb DEFAULT '{"pools":["default"],"tolerations":[],"hostLabels":[],"priorityMax":100}'::jsonb NOT NULL;--> statement-breakpoint
UPDATE "tenants" t SET "grants" = jsonb_build_object(
  'pools', (SELECT jsonb_agg(DISTINCT pool) FROM (
    SELECT 'default' AS pool UNION SELECT s."placement"->>'pool' FROM "services" s
    WHERE s."tenant_id" = t."id" AND s."deleted_at" IS NULL AND s."placement" ? 'pool') used),
  'tolerations', (SELECT coalesce(jsonb_agg(DISTINCT (x->>'key') || '=' || coalesce(x->>'value', '')), '[]')
    FROM "services" s, jsonb_array_elements(coalesce(s."placement"->'tolerations', '[]')) x
    WHERE s."tenant_id" = t."id" AND s."deleted_at" IS NULL),
  'hostLabels', (SELECT coalesce(jsonb_agg(DISTINCT l.key || '=' || l.value), '[]')
    FROM "services" s, jsonb_each_text(coalesce(s."placement"->'hostLabels', '{}')) l
    WHERE s."tenant_id" = t."id" AND s."deleted_at" IS NULL),
  'priorityMax', (SELECT greatest(100, max(s."priority")) FROM "services" s
    WHERE s."tenant_id" = t."id" AND s."deleted_at" IS NULL))
WHERE t."name" <> 'default';--> statement-breakpoint
UPDATE "tenants" SET "grants" = '{"pools":["*"],"tolerations":["*"],"hostLabels":["*"],"priorityMax":1000}' WHERE "name" = 'default';
