-- Why: each placement read all anti-affinity rules of the tenant, under the placement lock. The index finds the services whose rules
-- name one service. Without `fastupdate` a search reads no pending list.
-- Locks: SHARE on services while the index is built, which reads the services with rules.
-- The previous release runs on this schema: it uses neither the function nor the index.
-- Rollback: drop the index, then the function.
CREATE FUNCTION repelled_names(tenant_id text, placement jsonb) RETURNS text[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
  SELECT array(SELECT tenant_id || '/' || name FROM jsonb_array_elements_text(placement->'antiAffinity') AS rule(name))
$$;--> statement-breakpoint
CREATE INDEX "services_repelled_names" ON "services" USING gin (repelled_names(tenant_id, placement)) WITH (fastupdate=false) WHERE deleted_at is null and placement->'antiAffinity' <> '[]'::jsonb;