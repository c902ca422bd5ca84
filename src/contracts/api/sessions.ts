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
