import { type Network, NETWORKS_PER_TENANT_MAX } from "../../contracts/api/networks.ts";
import {
  type ExplainedEnd,
  type ExplainedPath,
  type ExplainRules,
  renderExplanation,
  type RuleExplanation,
  SETS_EXPLAINED_MAX,
} from "../../contracts/api/rule-explanation.ts";
import { AppError, notFound } from "../../contracts/common/app-error.ts";
import {
  type Connection,
  type ConnectionDecision,
  type ConnectionEnd,
  createConnectionDecider,
  type DirectionDecision,
} from "../../contracts/network-driver/decide-connection.ts";
import { listNetworks } from "../../db/queries/networks/networks.ts";
import { listHostRules } from "../../db/queries/rules/host-rules.ts";
import { listRulesById } from "../../db/queries/rules/read-rules.ts";
import { isAddressIn } from "../../contracts/network-driver/network-state.ts";
import { parseAddress } from "../../lib/ip/ip-address.ts";
import type { ControlContext } from "../runtime/context.ts";
import { findNamedEnd, type NamedEnd } from "./connection-ends.ts";

/**
 * Names the rules that decide new connections, by the evaluator that the network driver's flows are
 * compared with. Reads those rules of the networks of both ends that can match. Throws not-found.
 */
export async function explainRules(
  ctx: ControlContext,
  tenantId: string,
  query: ExplainRules,
): Promise<RuleExplanation> {
  const all = await listNetworks(ctx.db, tenantId, undefined, NETWORKS_PER_TENANT_MAX);
  const networks = all.filter(({ name }) => query.network === undefined || query.network === name);
  if (query.network !== undefined && networks.length === 0) throw notFound("network");
  const from = await findNamedEnd(ctx, tenantId, query.from, "from");
  const to = await findNamedEnd(ctx, tenantId, query.to, "to");
  const pairs = networks.flatMap((network) => listPairs(network, from, to));
  const paths = await decidePairs(ctx, pairs, query);
  const explanation = {
    verdict: toVerdict(paths),
    paths,
    notes: [
      ...listNotes(from, to, all, paths),
      ...(pairs.some((pair) => isNameQuery(pair, { port: query.port ?? null }))
        ? ["DNS queries to the gateway pass whatever the rules."]
        : []),
    ],
  };
  return { ...explanation, text: renderExplanation(explanation, query) };
}

/** An address of one end in a network, or an external one. */
interface PlacedEnd extends ConnectionEnd {
  setId: string | null;
  service: string | null;
}

interface Pair {
  network: Network;
  from: PlacedEnd;
  to: PlacedEnd;
}

/** The pairs of addresses of one family. At least one of each pair is in the network. */
function listPairs(network: Network, from: NamedEnd, to: NamedEnd): Pair[] {
  return listEnds(network, from).flatMap((sender) =>
    listEnds(network, to).flatMap((receiver) => {
      const isSameSet = sender.setId !== null && sender.setId === receiver.setId;
      const isPair =
        (sender.isInNetwork || receiver.isInNetwork) &&
        familyOf(sender.address) === familyOf(receiver.address);
      const isExternalIpv6 =
        familyOf(sender.address) === 6 && sender.isInNetwork !== receiver.isInNetwork;
      return isPair && !isSameSet && !isExternalIpv6 ? { network, from: sender, to: receiver } : [];
    }),
  );
}

function listEnds(network: Network, end: NamedEnd): PlacedEnd[] {
  const ofSets = end.interfaces
    .filter(({ networkId }) => networkId === network.id)
    .flatMap(({ setId, serviceId, service, addresses }) =>
      addresses.map((address) => ({ address, setId, serviceId, service, isInNetwork: true })),
    );
  if (end.address === undefined || end.interfaces.length > 0) return ofSets;
  const { text: address } = end.address;
  const isGateway = network.subnets.some(({ gateway }) => gateway === address);
  // An address of the subnet that no set has reaches nothing and is reached by nothing.
  if (!isGateway && network.subnets.some(({ cidr }) => isAddressIn(address, cidr))) return [];
  return [{ address, setId: null, serviceId: null, service: null, isInNetwork: isGateway }];
}

function familyOf(address: string): number | undefined {
  return parseAddress(address)?.family;
}

/** Decides each pair, and joins those of one network with the same deciding rules. */
async function decidePairs(
  { db }: ControlContext,
  pairs: readonly Pair[],
  { protocol, port }: Pick<ExplainRules, "protocol" | "port">,
): Promise<ExplainedPath[]> {
  const networkIds = [...new Set(pairs.map(({ network }) => network.id))];
  const ends = pairs.flatMap(({ from, to }) => [from, to]);
  const serviceIds = [...new Set(ends.flatMap(({ serviceId }) => serviceId ?? []))];
  const read = await listHostRules(db, networkIds, { serviceIds, protocol });
  const deciders = new Map(
    read.map(({ networkId, rules }) => [networkId, createConnectionDecider(rules)]),
  );
  const groups = new Map<string, { pair: Pair; decision: ConnectionDecision; count: number }>();
  for (const pair of pairs) {
    const connection: Connection = { from: pair.from, to: pair.to, protocol, port: port ?? null };
    const decision = isNameQuery(pair, connection)
      ? nameQueryDecision
      : deciders.get(pair.network.id)?.(connection);
    if (!decision) continue; // the network was deleted meanwhile
    const key = JSON.stringify([
      pair.network.id,
      decision.egress && (decision.egress.rule?.ruleId ?? ""),
      decision.ingress && (decision.ingress.rule?.ruleId ?? ""),
    ]);
    const group = groups.get(key);
    if (group) group.count++;
    else groups.set(key, { pair, decision, count: 1 });
  }
  const decided = [...groups.values()];
  const ids = decided.flatMap(({ decision }) =>
    [decision.egress, decision.ingress].flatMap((each) => each?.rule?.ruleId ?? []),
  );
  const rules = new Map(
    (await listRulesById(db, [...new Set(ids)])).map((rule) => [rule.id, rule]),
  );
  const toDecision = (decision: DirectionDecision | null): ExplainedPath["egress"] => {
    if (!decision) return null;
    if (!decision.rule) return { action: decision.action, rule: null };
    const rule = rules.get(decision.rule.ruleId);
    if (!rule) throw changedMeanwhile();
    return { action: decision.action, rule };
  };
  return decided.map(({ pair, decision, count }) => ({
    network: pair.network.name,
    from: toExplainedEnd(pair.from),
    to: toExplainedEnd(pair.to),
    isAllowed: decision.isAllowed,
    egress: toDecision(decision.egress),
    ingress: toDecision(decision.ingress),
    connectionCount: count,
  }));
}

const DNS_PORT = 53;
const byDefault: DirectionDecision = { action: "allow", rule: null };
const nameQueryDecision = { isAllowed: true, egress: byDefault, ingress: byDefault };

/** The switch answers queries to the gateway before the rules: see docs/internals/names.md. */
function isNameQuery(
  { network, to }: Pick<Pair, "network" | "to">,
  { port }: Pick<Connection, "port">,
): boolean {
  return (
    port === DNS_PORT &&
    network.subnets.some(({ gateway, family }) => family === 4 && gateway === to.address)
  );
}

function changedMeanwhile(): AppError {
  return new AppError("state-conflict", {
    detail: "The rules changed while Berth read them. Retry the request.",
    retryAfterMs: 100,
  });
}

function toExplainedEnd({ address, setId, service }: PlacedEnd): ExplainedEnd {
  return { address, setId, service };
}

function toVerdict(paths: readonly ExplainedPath[]): RuleExplanation["verdict"] {
  if (paths.length === 0) return "no-path";
  if (paths.every(({ isAllowed }) => isAllowed)) return "allowed";
  return paths.some(({ isAllowed }) => isAllowed) ? "mixed" : "denied";
}

function listNotes(
  from: NamedEnd,
  to: NamedEnd,
  networks: readonly Network[],
  paths: readonly ExplainedPath[],
): string[] {
  const notes = [from, to].flatMap(({ note }) => note ?? []);
  for (const { description, isCut } of [from, to])
    if (isCut)
      notes.push(
        `${description} has more than ${SETS_EXPLAINED_MAX} sets. The first were compared.`,
      );
  if (paths.some(({ egress }) => egress === null))
    notes.push("External addresses reach sets only through published ports.");
  return paths.length > 0 ? notes : [...notes, ...listReasons(from, to, networks)];
}

/** Why no path leads from one end to the other. */
function listReasons(from: NamedEnd, to: NamedEnd, networks: readonly Network[]): string[] {
  const unplaced = [from, to].flatMap((end) => describeUnplaced(end, networks));
  if (unplaced.length > 0) return unplaced;
  const [sender, receiver] = [namesOf(from, networks), namesOf(to, networks)];
  if (sender.length === 0 && receiver.length === 0)
    return ["Neither address is in a network of the tenant."];
  if (sender.length === 0 || receiver.length === 0)
    return ["Sets have no path to or from external IPv6 addresses."];
  if (sender.some((name) => receiver.includes(name)))
    return [
      "Both ends are the same set, or have no addresses of one family. No rule applies inside a set.",
    ];
  return [
    `${from.description} is in ${list(sender)}, and ${to.description.toLowerCase()} is in ${list(receiver)}. No path leads between networks.`,
  ];
}

/** Why an end has no place in any network, unless it is an external address. */
function describeUnplaced(end: NamedEnd, networks: readonly Network[]): string[] {
  if (end.interfaces.length > 0) return [];
  if (end.address === undefined)
    return [`${end.description} has no address in a network of the tenant.`];
  const address = end.address.text;
  const containing = networks.filter(({ subnets }) =>
    subnets.some(({ cidr, gateway }) => gateway !== address && isAddressIn(address, cidr)),
  );
  const [network] = containing;
  return network ? [`No set of network ${network.name} has the address ${address}.`] : [];
}

function namesOf(end: NamedEnd, networks: readonly Network[]): string[] {
  return networks
    .filter(
      ({ id, subnets }) =>
        end.interfaces.some(({ networkId }) => networkId === id) ||
        subnets.some(({ gateway }) => gateway === end.address?.text),
    )
    .map(({ name }) => name);
}

function list(names: readonly string[]): string {
  return `network${names.length === 1 ? "" : "s"} ${names.join(", ")}`;
}
