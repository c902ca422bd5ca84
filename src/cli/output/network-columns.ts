import type { Endpoint } from "../../contracts/api/endpoints.ts";
import type { GatewayPort } from "../../contracts/api/gateways.ts";
import type { Network, NetworkAddress } from "../../contracts/api/networks.ts";
import { describePeer } from "../../contracts/api/rule-texts.ts";
import type { Rule } from "../../contracts/api/rules.ts";
import type { Column } from "./columns.ts";
import { formatAge } from "./format-amounts.ts";

export const networkColumns: readonly Column<Network>[] = [
  { head: "NAME", cell: ({ name }) => name },
  { head: "TENANT", wide: true, cell: ({ tenant }) => tenant },
  { head: "VNI", cell: ({ vni }) => String(vni) },
  { head: "SUBNETS", cell: ({ subnets }) => subnets.map(({ cidr }) => cidr).join(" ") },
  { head: "ASSIGNED", cell: ({ subnets }) => listCounts(subnets, "assigned") },
  { head: "FREE", cell: ({ subnets }) => listCounts(subnets, "free") },
  { head: "QUARANTINED", wide: true, cell: ({ subnets }) => listCounts(subnets, "quarantined") },
  {
    head: "GATEWAYS",
    wide: true,
    cell: ({ subnets }) => subnets.map(({ gateway }) => gateway).join(" "),
  },
  { head: "ID", wide: true, cell: ({ id }) => id },
];

/** The counts of all subnets, in their order. */
function listCounts(
  subnets: Network["subnets"],
  count: keyof Network["subnets"][number]["addresses"],
): string {
  return subnets.map(({ addresses }) => addresses[count]).join(" ");
}

export const networkAddressColumns: readonly Column<NetworkAddress>[] = [
  { head: "ADDRESS", cell: ({ address }) => address },
  {
    head: "STATE",
    cell: ({ state }) => state,
    tone: ({ state }) => (state === "assigned" ? "good" : "warn"),
  },
  { head: "SET", cell: ({ setId }) => setId ?? "" },
  { head: "SERVICE", cell: ({ service }) => service ?? "" },
  { head: "GATEWAY", wide: true, cell: ({ gateway }) => gateway ?? "" },
  { head: "MAC", wide: true, cell: ({ mac }) => mac },
  {
    head: "QUARANTINED",
    wide: true,
    cell: ({ quarantinedAt }, nowMs) =>
      quarantinedAt === null ? "" : formatAge(quarantinedAt, nowMs),
  },
];

export const ruleColumns: readonly Column<Rule>[] = [
  { head: "NAME", cell: ({ name }) => name },
  { head: "TENANT", wide: true, cell: ({ tenant }) => tenant },
  { head: "NETWORK", cell: ({ network }) => network },
  { head: "PRIORITY", cell: ({ priority }) => String(priority) },
  {
    head: "ACTION",
    cell: ({ action }) => action,
    tone: ({ action }) => (action === "allow" ? "good" : "bad"),
  },
  { head: "DIRECTION", cell: ({ direction }) => direction },
  { head: "SERVICE", cell: ({ service }) => service ?? "(all)" },
  { head: "PEER", cell: ({ peer }) => describePeer(peer) },
  {
    head: "PROTOCOL",
    cell: ({ protocol, ports }) => [protocol, ports.join(",")].filter(Boolean).join(" "),
  },
  { head: "CHANGED", wide: true, cell: ({ updatedAt }, nowMs) => formatAge(updatedAt, nowMs) },
  { head: "ID", wide: true, cell: ({ id }) => id },
];

export const endpointColumns: readonly Column<Endpoint>[] = [
  { head: "SET", cell: ({ setId }) => setId },
  { head: "HOST", cell: ({ host }) => host.name },
  { head: "REACH", cell: ({ reach }) => reach },
  {
    head: "ADDRESSES",
    cell: ({ interfaces }) =>
      interfaces
        .map(({ network, addresses }) => `${addresses.join(", ")} (${network ?? "bridge"})`)
        .join("  "),
  },
  { head: "PORTS", cell: ({ ports }) => ports.map(describePort).join("  ") },
];

/** "http 8080/tcp at 192.0.2.7:20001", or without the published part. */
function describePort({ name, protocol, port, published }: Endpoint["ports"][number]): string {
  const own = `${name} ${port}/${protocol}`;
  if (!published) return own;
  return `${own} at ${joinAddress(published.address, published.port)}`;
}

function joinAddress(address: string, port: number): string {
  return `${address.includes(":") ? `[${address}]` : address}:${port}`;
}

export const gatewayColumns: readonly Column<GatewayPort>[] = [
  { head: "GATEWAY", cell: ({ host }) => host.name },
  { head: "PORT", cell: ({ port, protocol }) => `${port}/${protocol}` },
  {
    head: "ADDRESS",
    cell: ({ address, gatewayPort }) => joinAddress(address ?? "unknown", gatewayPort),
  },
  {
    head: "STATE",
    cell: ({ reason }) => reason ?? "ready",
    tone: ({ reason }) => (reason === null ? "good" : "warn"),
  },
  { head: "GROUP", wide: true, cell: ({ gatewayGroup }) => gatewayGroup },
];
