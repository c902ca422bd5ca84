/**
 * The driver refuses a call, or cannot perform it. Docker shows the message to its caller, so the
 * message says what is wrong and what to do.
 */
export class DriverError extends Error {
  override readonly name = "DriverError";
}
