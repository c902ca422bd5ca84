/** Resolves as `work` does. Calls `onHung` once when `work` has not ended after `timeoutMs`. */
export async function watchWork<T>(
  work: Promise<T>,
  timeoutMs: number,
  onHung: () => void,
): Promise<T> {
  const timer = setTimeout(onHung, timeoutMs);
  timer.unref();
  try {
    return await work;
  } finally {
    clearTimeout(timer);
  }
}
