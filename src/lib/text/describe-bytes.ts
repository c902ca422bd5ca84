const units = ["KiB", "MiB", "GiB", "TiB"] as const;

/** Bytes in a sentence, with at most three decimals: "900 bytes", "64 MiB", "1.465 GiB". */
export function describeBytes(bytes: number): string {
  if (Math.abs(bytes) < 1024) return `${bytes} bytes`;
  let amount = bytes / 1024;
  let unit = 0;
  while (Math.abs(amount) >= 1024 && unit < units.length - 1) {
    amount /= 1024;
    unit++;
  }
  return `${Math.round(amount * 1000) / 1000} ${units[unit] as string}`;
}
