-- Why: a quota bounded only what services intend (replicas times the newest template). A tenant could shrink a template or delete a
-- service, and create the next one while the sets still ran. Volumes, root file systems and the trash were in no quota at all. Now a
-- quota bounds the larger of what services intend and what their sets have until a host reports them absent, in all dimensions.
-- How: triggers write changes to an unlogged table, and the commit adds them up in tenant_uses. The statement that places sets changes
-- none of the columns that the triggers watch, so placements do not pay for it.
-- Locks: ACCESS EXCLUSIVE on tenants, tenant_uses and services, SHARE ROW EXCLUSIVE on sets and volumes, while one read of each
-- backfills. Existing tenants get no bound of the new dimensions. Rollback: drop the triggers and functions on sets, volumes and
-- tenant_use_changes, restore count_tenant_use() of 0011, drop the table and the columns.
CREATE FUNCTION is_first_tenant_use_change() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  RETURN NOT EXISTS (SELECT 1 FROM tenant_use_changes WHERE changed_xid = pg_current_xact_id());
END
$$;--> statement-breakpoint
CREATE TABLE "tenant_use_changes" (
	"changed_xid" "xid8" DEFAULT pg_current_xact_id() NOT NULL,
	"is_first" boolean DEFAULT is_first_tenant_use_change() NOT NULL,
	"tenant_id" text NOT NULL,
	"existing_sets" bigint DEFAULT 0 NOT NULL,
	"existing_cpu_millis" bigint DEFAULT 0 NOT NULL,
	"existing_memory_bytes" bigint DEFAULT 0 NOT NULL,
	"existing_volume_bytes" bigint DEFAULT 0 NOT NULL,
	"existing_rootfs_bytes" bigint DEFAULT 0 NOT NULL,
	"trash_bytes" bigint DEFAULT 0 NOT NULL
);
--> statement-breakpoint
ALTER TABLE "services" ADD COLUMN "set_volume_bytes" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "services" ADD COLUMN "set_rootfs_bytes" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "tenant_uses" ADD COLUMN "volume_bytes" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "tenant_uses" ADD COLUMN "rootfs_bytes" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "tenant_uses" ADD COLUMN "existing_sets" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "tenant_uses" ADD COLUMN "existing_cpu_millis" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "tenant_uses" ADD COLUMN "existing_memory_bytes" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "tenant_uses" ADD COLUMN "existing_volume_bytes" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "tenant_uses" ADD COLUMN "existing_rootfs_bytes" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "tenant_uses" ADD COLUMN "trash_bytes" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "tenants" ADD COLUMN "generation" bigint DEFAULT 1 NOT NULL;--> statement-breakpoint
ALTER TABLE "tenants" ADD COLUMN "volume_bytes_max" bigint DEFAULT 2251799813685248 NOT NULL;--> statement-breakpoint
ALTER TABLE "tenants" ADD COLUMN "rootfs_bytes_max" bigint DEFAULT 2251799813685248 NOT NULL;--> statement-breakpoint
ALTER TABLE "tenants" ADD COLUMN "trash_bytes_max" bigint DEFAULT 2251799813685248 NOT NULL;--> statement-breakpoint
CREATE INDEX "tenant_use_changes_xid" ON "tenant_use_changes" USING btree ("changed_xid");--> statement-breakpoint
ALTER TABLE "tenant_use_changes" SET UNLOGGED;--> statement-breakpoint
UPDATE "services" s SET "set_volume_bytes" = coalesce((r."template"->'volume'->>'sizeBytes')::bigint, 0),
  "set_rootfs_bytes" = coalesce((r."template"->>'rootfsBytes')::bigint, 0)
FROM "revisions" r WHERE r."service_id" = s."id" AND r."number" = s."revision";--> statement-breakpoint
CREATE OR REPLACE FUNCTION count_tenant_use() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  added_sets bigint := 0;
  added_cpu bigint := 0;
  added_memory bigint := 0;
  added_volume bigint := 0;
  added_rootfs bigint := 0;
BEGIN
  IF TG_OP <> 'DELETE' AND NEW.deleted_at IS NULL AND NOT NEW.deleting THEN
    added_sets := NEW.desired_replicas;
    added_cpu := NEW.desired_replicas * NEW.set_cpu_millis;
    added_memory := NEW.desired_replicas * NEW.set_memory_bytes;
    added_volume := NEW.desired_replicas * NEW.set_volume_bytes;
    added_rootfs := NEW.desired_replicas * NEW.set_rootfs_bytes;
  END IF;
  IF TG_OP <> 'INSERT' AND OLD.deleted_at IS NULL AND NOT OLD.deleting THEN
    added_sets := added_sets - OLD.desired_replicas;
    added_cpu := added_cpu - OLD.desired_replicas * OLD.set_cpu_millis;
    added_memory := added_memory - OLD.desired_replicas * OLD.set_memory_bytes;
    added_volume := added_volume - OLD.desired_replicas * OLD.set_volume_bytes;
    added_rootfs := added_rootfs - OLD.desired_replicas * OLD.set_rootfs_bytes;
  END IF;
  IF (added_sets, added_cpu, added_memory, added_volume, added_rootfs) <> (0, 0, 0, 0, 0) THEN
    INSERT INTO tenant_uses AS u (tenant_id, part, sets, cpu_millis, memory_bytes, volume_bytes, rootfs_bytes)
    VALUES (coalesce(NEW.tenant_id, OLD.tenant_id), pg_backend_pid() % 16, added_sets, added_cpu, added_memory, added_volume, added_rootfs)
    ON CONFLICT (tenant_id, part) DO UPDATE SET sets = u.sets + excluded.sets,
      cpu_millis = u.cpu_millis + excluded.cpu_millis, memory_bytes = u.memory_bytes + excluded.memory_bytes,
      volume_bytes = u.volume_bytes + excluded.volume_bytes, rootfs_bytes = u.rootfs_bytes + excluded.rootfs_bytes;
  END IF;
  RETURN NULL;
END
$$;--> statement-breakpoint
DROP TRIGGER services_count_tenant_use ON services;--> statement-breakpoint
CREATE CONSTRAINT TRIGGER services_count_tenant_use
AFTER INSERT OR DELETE OR UPDATE OF desired_replicas, set_cpu_millis, set_memory_bytes, set_volume_bytes, set_rootfs_bytes, deleting,
  deleted_at ON services
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION count_tenant_use();--> statement-breakpoint
CREATE FUNCTION count_inserted_sets() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO tenant_use_changes (tenant_id, existing_sets, existing_cpu_millis, existing_memory_bytes, existing_volume_bytes,
    existing_rootfs_bytes)
  SELECT tenant_id, count(*), sum(cpu_millis), sum(memory_bytes), sum(volume_bytes), sum(rootfs_bytes)
  FROM inserted WHERE deleted_at IS NULL GROUP BY tenant_id;
  RETURN NULL;
END
$$;--> statement-breakpoint
CREATE TRIGGER sets_count_inserted AFTER INSERT ON sets
REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION count_inserted_sets();--> statement-breakpoint
CREATE FUNCTION count_changed_set() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  sign_old int := CASE WHEN OLD.deleted_at IS NULL THEN 1 ELSE 0 END;
  sign_new int := CASE WHEN TG_OP = 'UPDATE' AND NEW.deleted_at IS NULL THEN 1 ELSE 0 END;
BEGIN
  INSERT INTO tenant_use_changes (tenant_id, existing_sets, existing_cpu_millis, existing_memory_bytes, existing_volume_bytes,
    existing_rootfs_bytes)
  VALUES (OLD.tenant_id, sign_new - sign_old,
    CASE sign_new WHEN 1 THEN NEW.cpu_millis ELSE 0 END - sign_old * OLD.cpu_millis,
    CASE sign_new WHEN 1 THEN NEW.memory_bytes ELSE 0 END - sign_old * OLD.memory_bytes,
    CASE sign_new WHEN 1 THEN NEW.volume_bytes ELSE 0 END - sign_old * OLD.volume_bytes,
    CASE sign_new WHEN 1 THEN NEW.rootfs_bytes ELSE 0 END - sign_old * OLD.rootfs_bytes);
  RETURN NULL;
END
$$;--> statement-breakpoint
CREATE TRIGGER sets_count_changed AFTER UPDATE OF deleted_at, cpu_millis, memory_bytes, volume_bytes, rootfs_bytes ON sets
FOR EACH ROW WHEN ((OLD.deleted_at IS NULL, OLD.cpu_millis, OLD.memory_bytes, OLD.volume_bytes, OLD.rootfs_bytes)
  IS DISTINCT FROM (NEW.deleted_at IS NULL, NEW.cpu_millis, NEW.memory_bytes, NEW.volume_bytes, NEW.rootfs_bytes))
EXECUTE FUNCTION count_changed_set();--> statement-breakpoint
CREATE TRIGGER sets_count_deleted AFTER DELETE ON sets
FOR EACH ROW WHEN (OLD.deleted_at IS NULL) EXECUTE FUNCTION count_changed_set();--> statement-breakpoint
CREATE FUNCTION count_trash() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP <> 'INSERT' AND OLD.state = 'trashed' THEN
    INSERT INTO tenant_use_changes (tenant_id, trash_bytes) VALUES (OLD.tenant_id, -OLD.size_bytes);
  END IF;
  IF TG_OP <> 'DELETE' AND NEW.state = 'trashed' THEN
    INSERT INTO tenant_use_changes (tenant_id, trash_bytes) VALUES (NEW.tenant_id, NEW.size_bytes);
  END IF;
  RETURN NULL;
END
$$;--> statement-breakpoint
CREATE TRIGGER volumes_count_inserted AFTER INSERT ON volumes
FOR EACH ROW WHEN (NEW.state = 'trashed') EXECUTE FUNCTION count_trash();--> statement-breakpoint
CREATE TRIGGER volumes_count_changed AFTER UPDATE OF state, size_bytes, tenant_id ON volumes
FOR EACH ROW WHEN ((OLD.state, OLD.size_bytes, OLD.tenant_id) IS DISTINCT FROM (NEW.state, NEW.size_bytes, NEW.tenant_id))
EXECUTE FUNCTION count_trash();--> statement-breakpoint
CREATE TRIGGER volumes_count_deleted AFTER DELETE ON volumes
FOR EACH ROW WHEN (OLD.state = 'trashed') EXECUTE FUNCTION count_trash();--> statement-breakpoint
CREATE FUNCTION add_up_tenant_use_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  -- Adds up all changes of the transaction, in the order of tenants, so that no two commits deadlock.
  WITH changes AS (
    DELETE FROM tenant_use_changes WHERE changed_xid = pg_current_xact_id() RETURNING *
  )
  INSERT INTO tenant_uses AS u (tenant_id, part, sets, cpu_millis, memory_bytes, existing_sets, existing_cpu_millis,
    existing_memory_bytes, existing_volume_bytes, existing_rootfs_bytes, trash_bytes)
  SELECT tenant_id, pg_backend_pid() % 16, 0, 0, 0, sum(existing_sets), sum(existing_cpu_millis), sum(existing_memory_bytes),
    sum(existing_volume_bytes), sum(existing_rootfs_bytes), sum(trash_bytes)
  FROM changes GROUP BY tenant_id ORDER BY tenant_id
  ON CONFLICT (tenant_id, part) DO UPDATE SET existing_sets = u.existing_sets + excluded.existing_sets,
    existing_cpu_millis = u.existing_cpu_millis + excluded.existing_cpu_millis,
    existing_memory_bytes = u.existing_memory_bytes + excluded.existing_memory_bytes,
    existing_volume_bytes = u.existing_volume_bytes + excluded.existing_volume_bytes,
    existing_rootfs_bytes = u.existing_rootfs_bytes + excluded.existing_rootfs_bytes,
    trash_bytes = u.trash_bytes + excluded.trash_bytes;
  RETURN NULL;
END
$$;--> statement-breakpoint
CREATE CONSTRAINT TRIGGER tenant_use_changes_add_up AFTER INSERT ON tenant_use_changes
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.is_first) EXECUTE FUNCTION add_up_tenant_use_changes();--> statement-breakpoint
INSERT INTO tenant_uses AS u (tenant_id, part, sets, cpu_millis, memory_bytes, volume_bytes, rootfs_bytes, existing_sets,
  existing_cpu_millis, existing_memory_bytes, existing_volume_bytes, existing_rootfs_bytes, trash_bytes)
SELECT t.id, 0, 0, 0, 0, i.volume, i.rootfs, e.sets, e.cpu, e.memory, e.volume, e.rootfs, v.trash
FROM tenants t
CROSS JOIN LATERAL (SELECT coalesce(sum(desired_replicas * set_volume_bytes), 0) AS volume,
    coalesce(sum(desired_replicas * set_rootfs_bytes), 0) AS rootfs
  FROM services WHERE tenant_id = t.id AND deleted_at IS NULL AND NOT deleting) i
CROSS JOIN LATERAL (SELECT count(*) AS sets, coalesce(sum(cpu_millis), 0) AS cpu, coalesce(sum(memory_bytes), 0) AS memory,
    coalesce(sum(volume_bytes), 0) AS volume, coalesce(sum(rootfs_bytes), 0) AS rootfs
  FROM sets WHERE tenant_id = t.id AND deleted_at IS NULL) e
CROSS JOIN LATERAL (SELECT coalesce(sum(size_bytes), 0) AS trash FROM volumes WHERE tenant_id = t.id AND state = 'trashed') v
ON CONFLICT (tenant_id, part) DO UPDATE SET volume_bytes = excluded.volume_bytes, rootfs_bytes = excluded.rootfs_bytes,
  existing_sets = excluded.existing_sets, existing_cpu_millis = excluded.existing_cpu_millis,
  existing_memory_bytes = excluded.existing_memory_bytes, existing_volume_bytes = excluded.existing_volume_bytes,
  existing_rootfs_bytes = excluded.existing_rootfs_bytes, trash_bytes = excluded.trash_bytes;
