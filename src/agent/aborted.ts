/** May have changed during a wait, whatever was known of it before. */
export function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}

export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    return signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
