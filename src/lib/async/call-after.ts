/** Calls back once after `delayMs`. The returned function cancels the call. */
export type CallAfter = (delayMs: number, callback: () => void) => () => void;

/** Longer timers overflow in Node and would fire immediately. */
const TIMER_MS_MAX = 2 ** 31 - 1;

export const callAfter: CallAfter = (delayMs, callback) => {
  const timer = setTimeout(callback, Math.min(Math.max(delayMs, 0), TIMER_MS_MAX));
  return () => clearTimeout(timer);
};
