/**
 * The kinds of changes in the history of a service. A user can undo all but `created` and
 * `deleted`.
 */
export const serviceChangeKinds = [
  "created",
  "template",
  "scale",
  "resize",
  "policy",
  "rollback",
  "stop",
  "start",
  "restart",
  "protect",
  "deleted",
] as const;
export type ServiceChangeKind = (typeof serviceChangeKinds)[number];
