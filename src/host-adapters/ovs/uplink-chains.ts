import type { HostPort } from "../../network-driver/ports/uplink.ts";
import type { FilterChain } from "./packet-filter.ts";

/**
 * Packets with DNS queries per second of one network on one host. Far above it, the name server
 * would have no time for the queries of other networks.
 */
const queryPacketsPerSecondMax = 2_000;
/** A network may exceed the rate by this number of packets. */
const queryBurst = 4_000;

interface UplinkFacts {
  bridge: string;
  /** The name of the interface. */
  name: string;
  subnet: string;
  nameServerAddress: string;
  /** The interfaces on which packets of sets leave. */
  outward: readonly string[];
  /** How many connections the host tracks for one network. */
  limit: number;
  /** How many connections per second may open to one published port. */
  openingsPerSecondMax: number;
}

export function publishingChainName(bridge: string): string {
  return `BERTH-PUB-${bridge}`;
}

/**
 * Translates connections to ports of the host. Packets of sets are excluded: they do not reach the
 * host.
 */
export function publishingChain(
  bridge: string,
  name: string,
  ports: readonly HostPort[],
): FilterChain {
  return {
    table: "nat",
    name: publishingChainName(bridge),
    rules: ports.map(
      ({ protocol, hostPort, address }) =>
        `-p ${protocol} -m ${protocol} --dport ${hostPort} -j DNAT --to-destination ${address}:${hostPort}`,
    ),
    jumps: [["PREROUTING", "!", "-i", name, "-m", "addrtype", "--dst-type", "LOCAL"]],
  };
}

/** The chains of the uplink, except the one for published ports. */
export function listUplinkChains(facts: UplinkFacts): FilterChain[] {
  return [...listNameChains(facts), ...listForwardChains(facts)];
}

/**
 * The chains for packets to the host itself. Only DNS queries may arrive. The host does not track
 * them: each would occupy a tracked connection for 30 s, and so use up those of its network.
 */
function listNameChains({ bridge, name, subnet, nameServerAddress }: UplinkFacts): FilterChain[] {
  const protocols = ["udp", "tcp"];
  const queries = protocols.map(
    (protocol) => `-i ${name} -s ${subnet} -d ${nameServerAddress} -p ${protocol} --dport 53`,
  );
  const answers = protocols.map(
    (protocol) => `-o ${name} -s ${nameServerAddress} -d ${subnet} -p ${protocol} --sport 53`,
  );
  const rate = `--hashlimit-above ${queryPacketsPerSecondMax}/sec --hashlimit-burst ${queryBurst}`;
  // Each network has one source address.
  // The name has the rate, because Linux retains the rate of an existing name.
  const tooMany = `-m hashlimit ${rate} --hashlimit-mode srcip --hashlimit-name ${bridge}-dns-${queryPacketsPerSecondMax}`;
  return [
    {
      table: "raw",
      name: `BERTH-DNS-${bridge}`,
      rules: [...queries, ...answers].map((match) => `${match} -j CT --notrack`),
      jumps: [
        ["PREROUTING", "-i", name],
        ["OUTPUT", "-o", name],
      ],
    },
    {
      table: "mangle",
      name: `BERTH-IN-${bridge}`,
      rules: [
        ...queries.map((match) => `${match} ${tooMany} -j DROP`),
        ...queries.map((match) => `${match} -j RETURN`),
        "-j DROP",
      ],
      // Other interfaces, because Linux accepts packets for its addresses on each of them.
      jumps: [
        ["INPUT", "-i", name],
        ["INPUT", "-d", `${nameServerAddress}/32`],
      ],
    },
    {
      table: "filter",
      name: `BERTH-IN-${bridge}`,
      rules: queries.map((match) => `${match} -j ACCEPT`),
      jumps: [["INPUT", "-i", name]],
    },
    {
      // Untracked, so the answers have no state that other rules would accept.
      table: "filter",
      name: `BERTH-OUT-${bridge}`,
      rules: answers.map((match) => `${match} -j ACCEPT`),
      jumps: [["OUTPUT", "-o", name]],
    },
  ];
}

function listForwardChains({
  bridge,
  name,
  subnet,
  outward,
  limit,
  openingsPerSecondMax,
}: UplinkFacts): FilterChain[] {
  const leaving = outward.map((other) => `-i ${name} -s ${subnet} -o ${other}`);
  const answers = `-o ${name} -m conntrack --ctstate RELATED,ESTABLISHED`;
  // Connections to published ports, from any interface, and the answers of sets.
  const toPublished = `-o ${name} -m conntrack --ctstate DNAT`;
  const fromPublished = `-i ${name} -m conntrack --ctstate ESTABLISHED -m conntrack --ctstate DNAT`;
  const permitted = [...leaving, answers, toPublished, fromPublished];
  const isNew = `-i ${name} -m conntrack --ctstate NEW`;
  // Each network has one source address.
  const tooMany = `-m connlimit --connlimit-above ${limit} --connlimit-mask 32`;
  // Each new connection is a decision of the switch daemon, which all networks share.
  const rate = `--hashlimit-above ${openingsPerSecondMax}/sec --hashlimit-burst ${2 * openingsPerSecondMax}`;
  const isFlood = `-m hashlimit ${rate} --hashlimit-mode dstip,dstport --hashlimit-name ${bridge}-new-${openingsPerSecondMax}`;
  const forward = [
    ["FORWARD", "-i", name],
    ["FORWARD", "-o", name],
  ] as const;
  return [
    {
      table: "mangle",
      name: `BERTH-FWD-${bridge}`,
      rules: [
        `${isNew} ${tooMany} --connlimit-saddr -j DROP`,
        `-o ${name} -m conntrack --ctstate NEW ${isFlood} -j DROP`,
        `-o ${name} -m conntrack --ctstate NEW ${tooMany} --connlimit-daddr -j DROP`,
        ...permitted.map((match) => `${match} -j RETURN`),
        "-j DROP",
      ],
      jumps: forward,
    },
    {
      table: "filter",
      name: `BERTH-FWD-${bridge}`,
      rules: permitted.map((match) => `${match} -j ACCEPT`),
      jumps: forward,
      behind: "DOCKER-USER",
    },
    {
      table: "nat",
      name: `BERTH-NAT-${bridge}`,
      rules: [`-s ${subnet} -j MASQUERADE`],
      jumps: [["POSTROUTING"]],
    },
  ];
}
