-- Why: an agent subtracted Docker's memory and logs for the containers that it had, so a burst of placements overbooked its
-- host (I2). Each set now books this overhead. The hosts have sums of it, which each usage report computes again.
-- The previous release runs on this schema. It places sets without overhead, and the trigger adds the overhead to them. That
-- release does not maintain the hosts' sums: the next usage report to an API of this release corrects them.
-- Locks: ACCESS EXCLUSIVE on hosts and sets for an instant. The defaults are constants, so no row is rewritten.
-- Rollback: create the trigger of 0037 again, drop the trigger on sets and both functions, then the columns.
ALTER TABLE "hosts" ADD COLUMN "overhead_memory_bytes" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "hosts" ADD COLUMN "overhead_rootfs_bytes" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "sets" ADD COLUMN "overhead_memory_bytes" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "sets" ADD COLUMN "overhead_rootfs_bytes" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
CREATE FUNCTION container_overhead(template jsonb, OUT memory_bytes bigint, OUT rootfs_bytes bigint) LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT (count(*) + 1) * 8388608, 20971520 + coalesce(sum(coalesce(
    (c->'options'->'logging'->>'maxSizeBytes')::bigint * (c->'options'->'logging'->>'maxFiles')::bigint, 20971520)), 0)::bigint
  FROM jsonb_array_elements(template->'containers') c
$$;--> statement-breakpoint
CREATE FUNCTION fill_set_overhead() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  overhead record;
BEGIN
  SELECT o.* INTO overhead FROM revisions r, container_overhead(r.template) o
  WHERE r.service_id = NEW.service_id AND r.number = NEW.revision;
  NEW.overhead_memory_bytes := coalesce(overhead.memory_bytes, 0);
  NEW.overhead_rootfs_bytes := coalesce(overhead.rootfs_bytes, 0);
  RETURN NEW;
END
$$;--> statement-breakpoint
CREATE TRIGGER sets_fill_overhead BEFORE UPDATE OF host_id ON sets FOR EACH ROW
WHEN (NEW.host_id IS NOT NULL AND NEW.overhead_memory_bytes = 0) EXECUTE FUNCTION fill_set_overhead();--> statement-breakpoint
DROP TRIGGER hosts_stamp_changed_xid ON hosts;--> statement-breakpoint
CREATE TRIGGER hosts_stamp_changed_xid BEFORE UPDATE OF
  pool, zone, rack, labels, taints, state, cordoned, draining, images, reported_at, reclaimable_volume_bytes, capabilities,
  allocatable_cpu_millis, allocatable_memory_bytes, allocatable_volume_bytes, allocatable_rootfs_bytes,
  allocated_cpu_millis, allocated_memory_bytes, allocated_volume_bytes, allocated_rootfs_bytes,
  overhead_memory_bytes, overhead_rootfs_bytes,
  unreported_cpu_millis, unreported_memory_bytes, unreported_volume_bytes, unreported_rootfs_bytes,
  used_cpu_millis, used_memory_bytes, used_volume_bytes, used_rootfs_bytes
ON hosts FOR EACH ROW EXECUTE FUNCTION stamp_changed_xid();
