/** Thrown when code reaches a state that should be impossible. It always shows a bug. */
export class InvariantError extends Error {
  override readonly name = "InvariantError";
}

/**
 * Throws InvariantError with `message` unless `condition` is true. Fails the request or the job,
 * never the process.
 */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}
