-- Why: the planner places a set only where the agent has the features that the template needs, and where its self test
-- has not failed. The trigger stamps a change, so that planners read it with their next refresh (see 0001).
-- Locks: brief ACCESS EXCLUSIVE on hosts. The column is nullable, so no row is rewritten.
-- Rollback: create the trigger of 0001 again, and drop the column. The previous release runs on this schema and ignores it.
ALTER TABLE "hosts" ADD COLUMN "capabilities" jsonb;--> statement-breakpoint
DROP TRIGGER hosts_stamp_changed_xid ON hosts;--> statement-breakpoint
CREATE TRIGGER hosts_stamp_changed_xid BEFORE UPDATE OF
  pool, zone, rack, labels, taints, state, cordoned, draining, images, reported_at, reclaimable_volume_bytes, capabilities,
  allocatable_cpu_millis, allocatable_memory_bytes, allocatable_volume_bytes, allocatable_rootfs_bytes,
  allocated_cpu_millis, allocated_memory_bytes, allocated_volume_bytes, allocated_rootfs_bytes,
  unreported_cpu_millis, unreported_memory_bytes, unreported_volume_bytes, unreported_rootfs_bytes,
  used_cpu_millis, used_memory_bytes, used_volume_bytes, used_rootfs_bytes
ON hosts FOR EACH ROW EXECUTE FUNCTION stamp_changed_xid();
