/** Thrown when code finds itself in a state that its author held impossible: always a bug. */
export class InvariantError extends Error {
  override readonly name = "InvariantError";
}

/**
 * Throws InvariantError with `message` unless `condition` holds. Fails the request or the job,
 * never the process.
 */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}
