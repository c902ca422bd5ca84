import { z } from "zod";
import { CONTAINERS_PER_SET_MAX } from "../api/set-template.ts";
import { idSchema } from "../common/primitives.ts";
import { SETS_PER_HOST_MAX } from "./protocol.ts";

/**
 * A holder of memory on a host: a set, or a container by the first 12 characters of Docker's id.
 */
export const memoryHolderSchema = z.union([idSchema("set"), z.string().regex(/^[0-9a-f]{12}$/)]);

/** The number of sets and containers on a host. */
export const MEMORY_HOLDERS_PER_HOST_MAX = SETS_PER_HOST_MAX * (CONTAINERS_PER_SET_MAX + 2);
