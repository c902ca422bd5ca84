import { z } from "zod";
import { setTemplateSchema } from "../api/set-template.ts";
import { NETWORKS_PER_SET_MAX } from "../api/template-networks.ts";
import { desiredSetStates } from "../api/sets.ts";
import { PUBLISHED_PORTS_PER_SET_MAX, portNumber, portProtocols } from "../api/template-ports.ts";
import { attachmentSchema } from "./attachment.ts";
import { generationSchema, idSchema, nameSchema, orNull } from "../common/primitives.ts";

/** A port of the set, and the port of its host that leads there. */
const hostPortSchema = z.strictObject({
  protocol: z.enum(portProtocols),
  port: portNumber,
  hostPort: portNumber,
});
export type HostPort = z.infer<typeof hostPortSchema>;

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
    /** The host ports of published ports. Undefined without any, so that older agents accept it. */
    hostPorts: z.array(hostPortSchema).min(1).max(PUBLISHED_PORTS_PER_SET_MAX).optional(),
  })
  .meta({ id: "DesiredSet" });
export type DesiredSet = z.infer<typeof desiredSetSchema>;
