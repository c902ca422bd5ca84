/** Measures consecutive phases of a start. The first one begins with the process. */
export interface Phases {
  /** Ends the current phase and names it. */
  end(name: string): void;
  /** Milliseconds of the phases so far, by name. */
  readonly durationsMs: Readonly<Record<string, number>>;
}

export function measurePhases(): Phases {
  const durationsMs: Record<string, number> = {};
  let beganAtMs = 0;
  return {
    durationsMs,
    end(name) {
      const nowMs = performance.now();
      durationsMs[name] = Math.round(nowMs - beganAtMs);
      beganAtMs = nowMs;
    },
  };
}
