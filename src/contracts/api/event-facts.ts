/** The sentence needs no facts; the data of the event may still hold ids. */
export type NoFacts = Record<string, unknown>;

/** An event about a service. */
export interface Named {
  /** The name of the service. */
  service: string;
}

/** An event from the report of an agent. */
export interface Reported {
  reason: string | null;
}
