/** Builds raw Ethernet frames with correct checksums, which connection tracking verifies. */

const BROADCAST = "ff:ff:ff:ff:ff:ff";

interface Link {
  from: string;
  /** The default is the broadcast address. */
  to?: string;
}

export interface UdpPacket extends Link {
  source: string;
  destination: string;
  sourcePort?: number;
  destinationPort?: number;
  text: string;
}

export function udpFrame(packet: UdpPacket): Buffer {
  const { source, destination, sourcePort = 7001, destinationPort = 7000, text } = packet;
  const data = Buffer.from(text);
  const header = words(sourcePort, destinationPort, 8 + data.length, 0);
  return packetFrame(packet, { source, destination, protocol: 17, checksumAt: 6 }, [header, data]);
}

/** An ICMPv6 message, whose body follows the checksum. */
export function icmpv6Frame(
  packet: Link & { source: string; destination: string },
  type: number,
  body: Buffer,
): Buffer {
  const head = { ...packet, protocol: 58, checksumAt: 2, hopLimit: 255 };
  return packetFrame(packet, head, [Buffer.from([type, 0, 0, 0]), body]);
}

/** A router advertisement of a default route, or a neighbor advertisement for `target`. */
export function advertisementFrame(
  packet: Link & { source: string; destination: string },
  target?: string,
): Buffer {
  const option = (type: number) => Buffer.concat([Buffer.from([type, 1]), macBytes(packet.from)]);
  if (target === undefined) {
    const router = Buffer.concat([Buffer.from([64, 0]), words(1_800, 0, 0, 0, 0)]);
    return icmpv6Frame(packet, 134, Buffer.concat([router, option(1)]));
  }
  const flags = Buffer.from([0x20, 0, 0, 0]);
  return icmpv6Frame(packet, 136, Buffer.concat([flags, addressBytes(target), option(2)]));
}

/** A neighbor solicitation, as the kernel sends it. */
export function solicitationFrame(from: string, source: string, target: string): Buffer {
  const tail = addressBytes(target).subarray(13);
  const group = Buffer.concat([addressBytes("ff02::1:ff00:0").subarray(0, 13), tail]);
  const destination = [...Array(8).keys()].map((at) => group.readUInt16BE(2 * at).toString(16));
  const option = Buffer.concat([Buffer.from([1, 1]), macBytes(from)]);
  const to = `33:33:ff:${[...tail].map((byte) => byte.toString(16).padStart(2, "0")).join(":")}`;
  const body = Buffer.concat([Buffer.alloc(4), addressBytes(target), option]);
  return icmpv6Frame({ from, to, source, destination: destination.join(":") }, 135, body);
}

export interface ArpFrame extends Link {
  operation: 1 | 2;
  senderMac: string;
  senderAddress: string;
  targetAddress: string;
}

export function arpFrame(arp: ArpFrame): Buffer {
  const body = [
    words(1, 0x0800, 0x0604, arp.operation),
    macBytes(arp.senderMac),
    addressBytes(arp.senderAddress),
    Buffer.alloc(6),
    addressBytes(arp.targetAddress),
  ];
  return Buffer.concat([linkHeader(arp, 0x0806), ...body]);
}

/** The address for which a neighbor solicitation asks. */
export function solicitedAddress(frame: Buffer): Buffer {
  return frame.subarray(62, 78);
}

/** Puts a VLAN tag into a frame. */
export function tagFrame(frame: Buffer): Buffer {
  return Buffer.concat([frame.subarray(0, 12), words(0x8100, 100), frame.subarray(12)]);
}

/** The frame's protocol: "arp 1" for a request, "icmp6 135", "udp" and others. */
export function describeFrame(frame: Buffer): string {
  const type = frame.readUInt16BE(12);
  if (type === 0x0806) return `arp ${frame.readUInt16BE(20)}`;
  const protocol = type === 0x0800 ? frame[23] : frame[20];
  if (type === 0x86dd && protocol === 58) return `icmp6 ${frame[54]}`;
  // The kernel reports multicast groups with a header between, of the kind hop-by-hop.
  if (type === 0x86dd && protocol === 0) return `icmp6 ${frame[62]}`;
  return protocol === 17 ? "udp" : protocol === 6 ? "tcp" : `other ${type} ${protocol}`;
}

function packetFrame(
  link: Link,
  head: {
    source: string;
    destination: string;
    protocol: number;
    checksumAt: number;
    hopLimit?: number;
  },
  parts: readonly Buffer[],
): Buffer {
  const { protocol, checksumAt, hopLimit = 64 } = head;
  const payload = Buffer.concat(parts);
  const source = addressBytes(head.source);
  const destination = addressBytes(head.destination);
  const pseudo = Buffer.concat([source, destination, words(payload.length, protocol)]);
  payload.writeUInt16BE(checksum(Buffer.concat([pseudo, payload])), checksumAt);
  if (source.length === 16) {
    const fixed = [words(0x6000, 0, payload.length), Buffer.from([protocol, hopLimit])];
    return Buffer.concat([linkHeader(link, 0x86dd), ...fixed, source, destination, payload]);
  }
  const fixed = [words(0x4500, 20 + payload.length, 0, 0), Buffer.from([hopLimit, protocol, 0, 0])];
  const ipv4 = Buffer.concat([...fixed, source, destination]);
  ipv4.writeUInt16BE(checksum(ipv4), 10);
  return Buffer.concat([linkHeader(link, 0x0800), ipv4, payload]);
}

function linkHeader({ from, to = BROADCAST }: Link, type: number): Buffer {
  return Buffer.concat([macBytes(to), macBytes(from), words(type)]);
}

function macBytes(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(":", ""), "hex");
}

export function addressBytes(address: string): Buffer {
  if (!address.includes(":")) return Buffer.from(address.split(".").map(Number));
  const [head = "", tail] = address.split("::");
  const groups = (text = "") => (text === "" ? [] : text.split(":"));
  const zeros = tail === undefined ? 0 : 8 - groups(head).length - groups(tail).length;
  const all = [...groups(head), ...Array<string>(zeros).fill("0"), ...groups(tail)];
  return words(...all.map((group) => Number.parseInt(group, 16)));
}

function words(...values: number[]): Buffer {
  const bytes = Buffer.alloc(2 * values.length);
  values.forEach((value, index) => bytes.writeUInt16BE(value, 2 * index));
  return bytes;
}

function checksum(data: Buffer): number {
  const even = data.length % 2 === 0 ? data : Buffer.concat([data, Buffer.alloc(1)]);
  let sum = 0;
  for (let at = 0; at < even.length; at += 2) sum += even.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x1_0000);
  return ~sum & 0xffff;
}
