import type { NetworkChange } from "../../contracts/agent-protocol/network-changes.ts";
import type { SharedHostNetwork, SharedHostNetworks } from "./host-networks.ts";

/** The texts of what hosts share, while it is in memory. */
const sharedTexts = new WeakMap<object, string>();

/**
 * Writes an answer as JSON. The hosts of a network share the texts of its rules, services and
 * steps. A network can have 10,000 rules, and a change goes to all of its hosts.
 */
export function writeHostNetworks({ version, networks, changes }: SharedHostNetworks): string {
  if (networks === null) return JSON.stringify({ version, networks });
  const members = [
    `"version":${JSON.stringify(version)}`,
    `"networks":[${networks.map(writeNetwork).join(",")}]`,
    ...(changes ? [`"changes":[${changes.map(writeChange).join(",")}]`] : []),
  ];
  return `{${members.join(",")}}`;
}

function writeNetwork({ rules, services, ...network }: SharedHostNetwork): string {
  const members = JSON.stringify(network).slice(1);
  return `{"rules":${writeShared(rules)},"services":${writeShared(services)},${members}`;
}

function writeChange({ steps, ...change }: NetworkChange): string {
  const members = JSON.stringify(change).slice(1);
  return `{"steps":[${steps.map(writeShared).join(",")}],${members}`;
}

function writeShared(shared: object): string {
  const text = sharedTexts.get(shared) ?? JSON.stringify(shared);
  sharedTexts.set(shared, text);
  return text;
}
