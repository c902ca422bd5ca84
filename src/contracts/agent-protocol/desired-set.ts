import { z } from "zod";
import { NETWORKS_PER_SET_MAX, setTemplateSchema } from "../api/set-template.ts";
import { desiredSetStates } from "../api/sets.ts";
import { attachmentSchema } from "./attachment.ts";
import { generationSchema, idSchema, nameSchema, orNull } from "../common/primitives.ts";

/** A set that the host should run, stop or delete, with everything that the agent needs for it. */
export const desiredSetSchema = z
  .strictObject({
    setId: idSchema("set"),
    tenant: nameSchema,
    service: nameSchema,
    revision: z.number().int(),
    generation: generationSchema,
    desired: z.enum(desiredSetStates),
    /** The agent replaces containers of an older generation; `restart` increases this number. */
    restartGeneration: generationSchema,
    /** A trashed volume of this host that the set gets instead of a new one. */
    restoreVolumeId: orNull(idSchema("vol")).default(null),
    template: setTemplateSchema,
    /**
     * The interfaces of the set, in the order of the networks of its template. Undefined if the set
     * has no network address and uses Docker's bridge. Agents without ATTACHMENTS_FEATURE get them
     * too, after a rollback: they must not start the set.
     */
    attachments: z.array(attachmentSchema).min(1).max(NETWORKS_PER_SET_MAX).optional(),
  })
  .meta({ id: "DesiredSet" });
export type DesiredSet = z.infer<typeof desiredSetSchema>;
