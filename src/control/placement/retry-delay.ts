const RETRY_MS_MIN = 500;
const RETRY_MS_MAX = 30_000;

/** 0.5 s, doubled per attempt up to 30 s. New capacity shortens it (see retryPendingSets). */
export function retryDelayMs(attempts: number): number {
  return Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(attempts, 10));
}
