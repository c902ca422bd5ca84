import { z } from "zod";
import { idSchema, nameSchema, pageQuery, reasonSchema, timestamp } from "../common/primitives.ts";

/**
 * The kinds of sessions with a container. A transfer copies a volume to another host, and has no
 * container.
 */
export const sessionKinds = [
  "exec",
  "attach",
  "copy-in",
  "copy-out",
  "port-forward",
  "transfer",
] as const;
export type SessionKind = (typeof sessionKinds)[number];

export const sessionStates = ["requested", "open", "ended"] as const;
export type SessionState = (typeof sessionStates)[number];

/** The programs that open sessions: the command line, or the SSH gateway. */
export const sessionClients = ["cli", "ssh"] as const;
export type SessionClient = (typeof sessionClients)[number];

/** A key of the role `read` opens no session that runs a program or changes a file. */
export const sshKeyRoles = ["tenant", "read"] as const;
export type SshKeyRole = (typeof sshKeyRoles)[number];

/** The longest time without a byte in either direction, unless the installation sets another. */
export const SESSION_IDLE_SECONDS_DEFAULT = 3_600;
/** The longest life of a session. */
export const SESSION_SECONDS_MAX = 86_400;

export const sessionSchema = z
  .strictObject({
    id: idSchema("ses"),
    tenant: nameSchema,
    serviceId: idSchema("svc"),
    setId: idSchema("set"),
    hostId: idSchema("host"),
    container: nameSchema.nullable().describe("Null for the transfer of a volume."),
    kind: z.enum(sessionKinds),
    state: z.enum(sessionStates),
    byName: z.string().nullable().describe("The token that opened it. Null for Berth itself."),
    client: z.enum(sessionClients).nullable(),
    exitCode: z.number().int().nullable().describe("Of the program. Null if it is unknown."),
    reason: reasonSchema.nullable().describe("Why the session ended without an exit code."),
    bytesIn: z.number().int().nonnegative().describe("Bytes to the container."),
    bytesOut: z.number().int().nonnegative().describe("Bytes from the container."),
    requestedAt: timestamp,
    openedAt: timestamp.nullable(),
    endedAt: timestamp.nullable(),
  })
  .meta({ id: "Session" });
export type Session = z.infer<typeof sessionSchema>;

/** Newest first. */
export const listSessionsQuery = pageQuery.extend({
  set: idSchema("set").optional(),
  open: z.stringbool().default(false).describe("Lists only sessions that have not ended."),
});
