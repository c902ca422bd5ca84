/**
 * Reads the flag through a call, because the compiler assumes that `aborted` does not change during
 * a wait.
 */
export function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}

export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    return signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
