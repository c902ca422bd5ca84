import {
  contains,
  formatAddress,
  formatRange,
  formatSubnet,
  type IpFamily,
  type IpRange,
  type IpSubnet,
  overlaps,
  parseAddress,
  parseRange,
  parseSubnet,
} from "../../lib/ip/ip-address.ts";
import {
  countOffsets,
  listUnusable,
  listUsableRanges,
  OFFSETS_PER_SUBNET_MAX,
} from "../common/subnet-addresses.ts";

/** A subnet as a request describes it. */
interface SubnetTexts {
  cidr: string;
  gateway?: string | undefined;
  pools?: readonly string[] | undefined;
  reservations?: readonly string[] | undefined;
}

/** A valid subnet. Its texts are in canonical form. */
export interface CheckedSubnet {
  family: IpFamily;
  cidr: string;
  gateway: string;
  /** Empty if Berth assigns addresses of the whole subnet. */
  pools: string[];
  reservations: string[];
}

type AddIssue = (path: (string | number)[], message: string) => void;

const prefixLengths = { 4: { least: 8, most: 29 }, 6: { least: 32, most: 120 } } as const;

/** Addresses that have a meaning of their own, or that no router forwards. */
const specialRanges = [
  ["0.0.0.0/8", "unspecified addresses"],
  ["127.0.0.0/8", "loopback addresses"],
  ["169.254.0.0/16", "link-local addresses"],
  ["192.0.0.0/24", "reserved addresses"],
  ["192.0.2.0/24", "addresses for documentation"],
  ["198.51.100.0/24", "addresses for documentation"],
  ["203.0.113.0/24", "addresses for documentation"],
  ["224.0.0.0/4", "multicast addresses"],
  ["240.0.0.0/4", "reserved addresses"],
  ["::/3", "reserved addresses"],
  ["2001:db8::/32", "addresses for documentation"],
  ["4000::/2", "reserved addresses"],
  ["8000::/2", "reserved addresses"],
  ["c000::/3", "reserved addresses"],
  ["e000::/4", "reserved addresses"],
  ["f000::/5", "reserved addresses"],
  ["f800::/6", "reserved addresses"],
  ["fe00::/9", "reserved addresses"],
  ["fe80::/10", "link-local addresses"],
  ["fec0::/10", "reserved addresses"],
  ["ff00::/8", "multicast addresses"],
].map(([cidr = "", meaning = ""]) => ({ range: parseSubnet(cidr), cidr, meaning }));

/**
 * Checks the subnets of a network, and reports each fault with its path. Returns the valid subnets.
 */
export function checkSubnets(subnets: readonly SubnetTexts[], addIssue: AddIssue): CheckedSubnet[] {
  const checked: { subnet: IpSubnet; result: CheckedSubnet; position: number }[] = [];
  for (const [position, texts] of subnets.entries()) {
    const addHere: AddIssue = (path, message) => addIssue([position, ...path], message);
    const subnet = checkCidr(texts.cidr, addHere);
    if (!subnet) continue;
    const conflicting = checked.find((other) => other.subnet.family === subnet.family);
    if (conflicting) {
      const { cidr } = conflicting.result;
      addHere(
        ["cidr"],
        overlaps(conflicting.subnet, subnet)
          ? `overlaps ${cidr} of subnets[${conflicting.position}]`
          : `a network has at most one IPv${subnet.family} subnet, and ${cidr} is already one`,
      );
      continue;
    }
    const result = checkAddresses(subnet, texts, addHere);
    if (result) checked.push({ subnet, result, position });
  }
  return checked.map(({ result }) => result);
}

function checkCidr(text: string, addIssue: AddIssue): IpSubnet | undefined {
  const fail = (message: string) => addIssue(["cidr"], message);
  const subnet = parseSubnet(text);
  if (!subnet) {
    fail("expected a subnet such as 10.64.0.0/16 or fd00:64::/64");
    return undefined;
  }
  const { least, most } = prefixLengths[subnet.family];
  if (subnet.hasHostBits) fail(`has host bits set; use ${formatSubnet(subnet)}`);
  else if (subnet.prefixLength > most)
    fail(`the subnet is too small; expected a prefix of at most /${most}`);
  else if (subnet.prefixLength < least)
    fail(`the subnet is too large; expected a prefix of at least /${least}`);
  else {
    const special = specialRanges.find(({ range }) => range && overlaps(range, subnet));
    if (!special) return subnet;
    fail(`contains ${special.meaning} (${special.cidr})`);
  }
  return undefined;
}

/** Returns undefined after a fault. */
function checkAddresses(
  subnet: IpSubnet,
  { gateway: gatewayText, pools: poolTexts, reservations: reservationTexts }: SubnetTexts,
  addIssue: AddIssue,
): CheckedSubnet | undefined {
  const gateway = checkGateway(subnet, gatewayText, addIssue);
  const pools = checkRanges(subnet, "pools", poolTexts ?? [], addIssue);
  const reservations = checkRanges(subnet, "reservations", reservationTexts ?? [], addIssue);
  if (gateway === undefined || !pools || !reservations) return undefined;
  const usable = countOffsets(listUsableRanges(subnet, { gateway, pools, reservations }));
  if (usable === 0) {
    const path = pools.length > 0 ? "pools" : "reservations";
    addIssue([path], "leaves no address for sets");
    return undefined;
  }
  return {
    family: subnet.family,
    cidr: formatSubnet(subnet),
    gateway: formatAddress({ family: subnet.family, value: gateway }),
    pools: pools.map(formatRange),
    reservations: reservations.map(formatRange),
  };
}

/** Returns the gateway: by default the second address of the subnet. */
function checkGateway(
  subnet: IpSubnet,
  text: string | undefined,
  addIssue: AddIssue,
): bigint | undefined {
  if (text === undefined) return subnet.first + 1n;
  const fail = (message: string): undefined => {
    addIssue(["gateway"], message);
  };
  const address = parseAddress(text);
  if (!address) return fail("expected an address such as 10.64.0.1 or fd00:64::1");
  const { family, value } = address;
  const own: IpRange = { family, first: value, last: value };
  if (!contains(subnet, own)) return fail(`is outside of ${formatSubnet(subnet)}`);
  if (listUnusable(subnet).some((unusable) => overlaps(unusable, own)))
    return fail(
      family === 4
        ? "is the network or broadcast address of the subnet"
        : "is the subnet-router anycast address",
    );
  return value;
}

/** Returns undefined after a fault. */
function checkRanges(
  subnet: IpSubnet,
  member: "pools" | "reservations",
  texts: readonly string[],
  addIssue: AddIssue,
): IpRange[] | undefined {
  const ranges: IpRange[] = [];
  const berthRange: IpRange = {
    family: subnet.family,
    first: subnet.first,
    last: subnet.first + BigInt(OFFSETS_PER_SUBNET_MAX - 1),
  };
  for (const [index, text] of texts.entries()) {
    const fail = (message: string) => addIssue([member, index], message);
    const range = parseRange(text);
    const conflicting = range && ranges.find((other) => overlaps(other, range));
    if (!range)
      fail(
        "expected an address, a range such as 10.64.0.10-10.64.0.20, or a smaller subnet such as 10.64.1.0/24",
      );
    else if (!contains(subnet, range)) fail(`is outside of ${formatSubnet(subnet)}`);
    else if (conflicting) fail(`overlaps ${formatRange(conflicting)} of the same list`);
    else if (member === "pools" && !contains(berthRange, range))
      fail(`is outside of the first 2^32 addresses of the subnet: ${formatRange(berthRange)}`);
    else ranges.push(range);
  }
  return ranges.length === texts.length ? ranges : undefined;
}
