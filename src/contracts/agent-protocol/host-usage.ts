import { z } from "zod";
import { reasonSchema, resourcesSchema } from "../common/primitives.ts";
import { lenientAmounts } from "./lenient-array.ts";
import { MEMORY_HOLDERS_PER_HOST_MAX, memoryHolderSchema } from "./memory-holder.ts";

/** The use of all processes of the machine, and the share for sets. */
export const hostUsageSchema = z.strictObject({
  used: resourcesSchema,
  allocatable: resourcesSchema,
  /** The part of the used volume bytes that the agent frees when a new volume needs it. */
  reclaimableVolumeBytes: z.number().int().nonnegative().default(0),
  trashedVolumeBytes: z.number().int().nonnegative().default(0),
  /**
   * A fault of the host's volumes, clock or agent. The rest of the report is valid. The name is
   * narrower, because earlier releases knew only faults of volumes.
   */
  volumeReason: reasonSchema.nullable().default(null),
  /** The layers of all images and of all containers on Docker's disk. Null if unknown. */
  disk: z
    .strictObject({
      imageBytes: z.number().int().nonnegative(),
      containerBytes: z.number().int().nonnegative(),
    })
    .nullable()
    .default(null),
  /**
   * The memory of each set and of each container, without page cache that the kernel can
   * drop. The key of a container is the first 12 characters of Docker's id.
   */
  setMemoryBytes: lenientAmounts(memoryHolderSchema, MEMORY_HOLDERS_PER_HOST_MAX).default({}),
});
