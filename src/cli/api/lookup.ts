import type { Host } from "../../contracts/api/hosts.ts";
import { parseRegistry } from "../../contracts/common/image-registry.ts";
import { isName } from "../../contracts/common/limits.ts";
import type { Rule } from "../../contracts/api/rules.ts";
import type { Service } from "../../contracts/api/services.ts";
import type { BerthSet } from "../../contracts/api/sets.ts";
import type { ApiClient } from "./api-client.ts";
import { CliError, usageError } from "../cli-error.ts";
import { exitCodes } from "../exit-codes.ts";
import { listPages } from "./list-pages.ts";

/** Hosts that getHost reads to find a name. An id finds each host of a larger fleet. */
const HOSTS_SEARCHED_MAX = 20_000;

export function isSetId(text: string): boolean {
  return /^set_[0-9a-z]+$/.test(text);
}

/** The path of a service. Throws a usage error for an invalid name. */
export function servicePath(name: string): string {
  if (!isName(name))
    throw usageError(
      `"${name}" is not a valid service name. Use lower-case letters, digits and hyphens.`,
    );
  return `/v1/services/${name}`;
}

/** The path of a set. Throws a usage error for an invalid id. */
export function setPath(id: string): string {
  if (!isSetId(id))
    throw usageError(
      `"${id}" is not the id of a set, such as set_01jd…`,
      "`berth get sets` lists the sets.",
    );
  return `/v1/sets/${id}`;
}

/** The path of a network. Throws a usage error for an invalid name. */
export function networkPath(name: string): string {
  if (!isName(name))
    throw usageError(
      `"${name}" is not a valid network name. Use lower-case letters, digits and hyphens.`,
    );
  return `/v1/networks/${name}`;
}

/** The path of a rule. Throws a usage error for an invalid name. */
export function rulePath(name: string): string {
  if (!isName(name))
    throw usageError(
      `"${name}" is not a valid rule name. Use lower-case letters, digits and hyphens.`,
    );
  return `/v1/rules/${name}`;
}

/** The path of a registry. Throws a usage error for a name that no image can have. */
export function registryPath(registry: string): string {
  const name = parseRegistry(registry);
  if (name === undefined)
    throw usageError(
      `"${registry}" is not a registry. Use docker.io, or a host with a dot or a port, such as registry.example.com:5000.`,
    );
  return `/v1/registries/${encodeURIComponent(name)}`;
}

export async function getService(api: ApiClient, name: string): Promise<Service> {
  return await api.request<Service>("GET", servicePath(name));
}

export async function getRule(api: ApiClient, name: string): Promise<Rule> {
  return await api.request<Rule>("GET", rulePath(name));
}

export async function getSet(api: ApiClient, id: string): Promise<BerthSet> {
  return await api.request<BerthSet>("GET", setPath(id));
}

/** Gets a host by its id or its name. */
export async function getHost(api: ApiClient, nameOrId: string): Promise<Host> {
  if (/^host_[0-9a-z]+$/.test(nameOrId))
    return await api.request<Host>("GET", `/v1/hosts/${nameOrId}`);
  const { items } = await listPages<Host>(api, "/v1/hosts", HOSTS_SEARCHED_MAX);
  const host = items.find((candidate) => candidate.name === nameOrId);
  if (host) return host;
  throw new CliError(`Host "${nameOrId}" not found, or your token does not permit reading it.`, {
    exitCode: exitCodes.notFound,
    hints: ["`berth get hosts` lists the hosts."],
  });
}
