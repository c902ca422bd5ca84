import { linkLocalOf } from "../../../src/network-driver/flows/flow-addresses.ts";
import type { FlowFrame } from "./flow-interpreter.ts";

export interface Member {
  mac: string;
  addresses: readonly string[];
}

/** The export interface with this number, which has the same addresses in every network. */
export function member(number: number, families: number): Member {
  const hex = number.toString(16).padStart(2, "0");
  const ipv4 = families === 6 ? [] : [`10.64.0.${number}`];
  const ipv6 = families === 4 ? [] : [`fd00::${number.toString(16)}`];
  return { mac: `0a:00:0a:40:00:${hex}`, addresses: [...ipv4, ...ipv6] };
}

export const isIpv6 = (address: string) => address.includes(":");
export const ownAddresses = ({ mac, addresses }: Member) =>
  addresses.some(isIpv6) ? [...addresses, linkLocalOf(mac)] : addresses;

/** A packet of the port to the MAC address `to`. */
export function packet(inPort: number, from: string, address: string, to: string): FlowFrame {
  const family = isIpv6(address) ? "ipv6" : "ip";
  const source = isIpv6(address) ? "ipv6_src" : "nw_src";
  return {
    protocols: [family, isIpv6(address) ? "udp6" : "udp"],
    fields: { in_port: String(inPort), dl_src: from, dl_dst: to, [source]: address },
  };
}

/** The frame as it arrives from another host. */
export function tunneled(frame: FlowFrame, vni: number, host: string): FlowFrame {
  return { ...frame, fields: { ...frame.fields, tun_id: String(vni), tun_src: host } };
}

/** A request of the port for the neighbor with address `target`. */
export function request(inPort: number, from: string, address: string, target: string): FlowFrame {
  const fields = { in_port: String(inPort), dl_src: from, dl_dst: "ff:ff:ff:ff:ff:ff" };
  if (!isIpv6(target))
    return {
      protocols: ["arp"],
      fields: { ...fields, arp_op: "1", arp_sha: from, arp_spa: address, arp_tpa: target },
    };
  const nd = { icmpv6_type: "135", icmpv6_code: "0", nd_target: target, nd_sll: from };
  return { protocols: ["ipv6", "icmp6"], fields: { ...fields, ...nd, ipv6_src: address } };
}
