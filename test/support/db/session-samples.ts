import * as sessions from "../../../src/db/queries/sessions/sessions.ts";
import type { Samples } from "./volume-samples.ts";

const session = {
  id: "ses",
  tenantId: "tnt",
  serviceId: "svc",
  setId: "set",
  hostId: "host",
  container: "app",
  kind: "exec",
  byTokenId: "tok",
  client: "cli",
} as const;
const reason = { code: "code", text: "text" };

export const sessionSamples: Samples = {
  findSessionTarget: (q) => [
    sessions.findSessionTarget(q, null, "set"),
    sessions.findSessionTarget(q, "tnt", "set"),
  ],
  insertSession: (q) => [sessions.insertSession(q, session)],
  updateSessionOpened: (q) => [sessions.updateSessionOpened(q, "ses")],
  updateSessionEnded: (q) => [
    sessions.updateSessionEnded(q, "ses", { exitCode: 0, reason: null, bytesIn: 1, bytesOut: 2 }),
    sessions.updateSessionEnded(q, "ses", { exitCode: null, reason, bytesIn: 1, bytesOut: 2 }),
  ],
  listSessions: (q) => [
    sessions.listSessions(q, null, { setId: undefined, isOpen: false }, undefined, 1),
    sessions.listSessions(q, "tnt", { setId: "set", isOpen: true }, "ses", 1),
  ],
  endAbandonedSessions: (q) => [sessions.endAbandonedSessions(q, 1, 1)],
  deleteOldSessions: (q) => [sessions.deleteOldSessions(q, 1, 1)],
};
