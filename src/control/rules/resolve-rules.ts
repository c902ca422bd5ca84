import type { CreateRule, RulePeerInput } from "../../contracts/api/rules.ts";
import type { FieldError } from "../../contracts/common/app-error.ts";
import {
  lockRuleNetworks,
  lockRuleServices,
  type RuleDefinition,
  type RuleNetwork,
  type RuleService,
} from "../../db/queries/rules/write-rules.ts";
import { parseSubnet } from "../../lib/ip/ip-address.ts";
import type { UnitOfWork } from "../runtime/context.ts";

/** A rule of a request, and the path to its members in the body. */
export interface NamedRule {
  rule: CreateRule;
  pointer: string;
}

/** The objects that rules name. */
export interface RuleObjects {
  networks: ReadonlyMap<string, RuleNetwork>;
  services: ReadonlyMap<string, RuleService>;
}

/**
 * Locks the services and networks that rules name, in this order. Those that do not exist are
 * missing in the result.
 */
export async function lockRuleObjects(
  tx: UnitOfWork,
  tenantId: string,
  rules: readonly CreateRule[],
): Promise<RuleObjects> {
  const serviceNames = new Set(
    rules.flatMap(({ service, peer }) => [service ?? [], peer.service ?? []].flat()),
  );
  const services = await lockRuleServices(tx, tenantId, [...serviceNames]);
  const networkNames = new Set(rules.map(({ network }) => network));
  const networks = await lockRuleNetworks(tx, tenantId, [...networkNames]);
  return {
    networks: new Map(networks.map((network) => [network.name, network])),
    services: new Map(services.map((service) => [service.name, service])),
  };
}

/** Replaces the names of a rule by ids, or adds each fault to `errors`. */
export function resolveRule(
  { rule, pointer }: NamedRule,
  objects: RuleObjects,
  errors: FieldError[],
): (RuleDefinition & { networkId: string }) | undefined {
  const errorsBefore = errors.length;
  const addError = (member: string, detail: string): void => {
    errors.push({ pointer: `${pointer}/${member}`, detail });
  };
  const network = objects.networks.get(rule.network);
  if (!network)
    addError(
      "network",
      `The tenant has no network ${rule.network}. Create it with \`berth network create\`.`,
    );
  const findService = (
    name: string | undefined | null,
    member: string,
  ): RuleService | undefined => {
    if (name === undefined || name === null) return undefined;
    const service = objects.services.get(name);
    if (!service) addError(member, `The tenant has no service ${name}. Create it first.`);
    else if (service.deleting)
      addError(member, `Service ${name} is being deleted. Wait until it is deleted.`);
    return service;
  };
  const service = findService(rule.service, "service");
  const peerService = findService(rule.peer.service, "peer/service");
  const fault = network && describePeerFault(rule.peer, network);
  if (fault !== undefined) addError(...fault);
  if (!network || errors.length > errorsBefore) return undefined;
  const { direction, action, protocol, ports, priority } = rule;
  return {
    networkId: network.id,
    direction,
    action,
    protocol,
    ports,
    priority,
    serviceId: service?.id ?? null,
    peerKind: kindOf(rule.peer),
    peerCidr: rule.peer.cidr ?? null,
    peerServiceId: peerService?.id ?? null,
  };
}

function describePeerFault(
  peer: RulePeerInput,
  network: RuleNetwork,
): [member: string, detail: string] | undefined {
  if (peer.network !== undefined && peer.network !== network.name)
    return [
      "peer/network",
      `No path leads between the networks ${network.name} and ${peer.network}. The peer can only be network ${network.name}.`,
    ];
  if (peer.cidr === undefined) return undefined;
  const family = parseSubnet(peer.cidr)?.family;
  if (family === undefined || network.families.includes(family)) return undefined;
  return [
    "peer/cidr",
    `Network ${network.name} has no IPv${family} subnet, so the rule would match no packet.`,
  ];
}

function kindOf(peer: RulePeerInput): RuleDefinition["peerKind"] {
  if (peer.cidr !== undefined) return "cidr";
  if (peer.service !== undefined) return "service";
  return peer.network === undefined ? "any" : "network";
}
