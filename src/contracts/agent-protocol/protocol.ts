/**
 * The agent protocol, version 1. The agent opens every connection; nothing connects to the agent.
 *
 * The agent enrolls once. Then it runs two independent loops over `sync`. One loop (waitMs > 0)
 * waits for desired sets that are newer than the accepted generation. The other loop (waitMs = 0)
 * reports changed sets and usage. Each sync renews the lease. The agent repeats observed sets until
 * a sync that contains them gets a 200.
 */
export const AGENT_PROTOCOL_VERSION = 1;
export const SYNC_WAIT_MS_MAX = 25_000;
export const LEASE_SECONDS = 45;
/** One response can contain twice as many sets with their templates: see TEMPLATE_BYTES_MAX. */
export const SETS_PER_HOST_MAX = 1_000;
/** A machine with more deleted hosts retains the containers of the oldest ones. */
export const PREVIOUS_HOSTS_MAX = 16;
export const PURGES_PER_SYNC_MAX = 1_000;
/** Trashed volumes count too. */
export const VOLUMES_PER_HOST_MAX = 10_000;
