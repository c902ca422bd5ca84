const cpuMax = 1_023;

/** Parses a list of processors as Linux writes it, such as `0-3,7`. Undefined for other texts. */
export function parseCpuList(text: string): number[] | undefined {
  const cpus = new Set<number>();
  for (const part of text.trim().split(",")) {
    const [, first = "", last = first] = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part.trim()) ?? [];
    if (first === "" || Number(first) > Number(last) || Number(last) > cpuMax) return undefined;
    for (let cpu = Number(first); cpu <= Number(last); cpu++) cpus.add(cpu);
  }
  return [...cpus].sort((a, b) => a - b);
}

/** The mask that has a bit for each processor, such as `0x6` for 1 and 2. */
export function toCpuMask(cpus: readonly number[]): string {
  return `0x${cpus.reduce((mask, cpu) => mask | (1n << BigInt(cpu)), 0n).toString(16)}`;
}
