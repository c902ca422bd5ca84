/**
 * Limits of the API that other code needs without the schemas. This file imports nothing: the
 * command line starts faster without zod.
 */

/** The largest page of a list. */
export const PAGE_LIMIT_MAX = 500;

/** The largest number of sets of a service. */
export const REPLICAS_MAX = 20_000;

/** The largest number of rules of a network, and of those that one request creates. */
export const RULES_PER_NETWORK_MAX = 10_000;
export const RULES_PER_REQUEST_MAX = 500;

/** The longest time that one request of a wait lasts. */
export const WAIT_SECONDS_MAX = 60;

/** A name of a tenant, service, container or host: a DNS label, valid in host names and paths. */
export const NAME_PATTERN = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/;
export const NAME_LENGTH_MAX = 63;

export function isName(text: string): boolean {
  return text.length <= NAME_LENGTH_MAX && NAME_PATTERN.test(text);
}
