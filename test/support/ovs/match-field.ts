import { parseAddress, parseSubnet } from "../../../src/lib/ip/ip-address.ts";

/** Whether the value of a field matches: a value, a subnet, or a number with a mask. */
export function matchesField(value: string | undefined, wanted: string): boolean {
  if (value === undefined) return false;
  if (value === wanted) return true;
  if (!wanted.includes("/")) return false;
  const subnet = parseSubnet(wanted);
  const address = parseAddress(value);
  if (subnet && address)
    return (
      subnet.family === address.family &&
      subnet.first <= address.value &&
      address.value <= subnet.last
    );
  const [number, mask] = wanted.split("/").map(Number);
  if (mask === undefined || number === undefined || Number.isNaN(mask)) return false;
  return (Number(value) & mask) === number;
}
