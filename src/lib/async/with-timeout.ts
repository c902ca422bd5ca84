/**
 * Resolves as `work` does, or with `late` after `timeoutMs`, whichever is first. Late work
 * continues: its result and its error are dropped.
 */
export async function withTimeout<T, L>(
  work: Promise<T>,
  timeoutMs: number,
  late: L,
): Promise<T | L> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const timeout = new Promise<L>((resolve) => {
    timer = setTimeout(() => resolve(late), timeoutMs);
  });
  try {
    return await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
