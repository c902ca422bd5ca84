/**
 * A test limits CPU time to a multiple of a reference that it measures itself, so that the limit
 * holds on a slow machine.
 */

const REFERENCE_VALUES = 300_000;

/**
 * Returns the CPU milliseconds that this process needs to sort 300,000 numbers three times. They
 * include the garbage collector and the compiler, like the work under test.
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
