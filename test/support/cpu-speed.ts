/**
 * Limits of CPU time in tests are multiples of a reference that the same test measures, so that they hold on
 * a slow machine too.
 */

const REFERENCE_VALUES = 300_000;

/**
 * Gives the CPU milliseconds that this process needs to sort 300,000 numbers, three times. The garbage
 * collector and the compiler are part of it, as they are of the work under test.
 */
export function measureReferenceCpuMs(): number {
  const before = process.cpuUsage();
  for (let round = 0; round < 3; round++) {
    const values = Array.from(
      { length: REFERENCE_VALUES },
      (_, index) => (index * 7_919) % REFERENCE_VALUES,
    );
    values.sort((a, b) => a - b);
  }
  return cpuMsSince(before);
}

export function cpuMsSince(before: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000;
}
