/** All names that the name server of a host answers. */
export interface NameTable {
  /** In the order of their precedence: the first zone of a client that has a name answers it. */
  zones: readonly NameZone[];
  clients: readonly NameClient[];
}

export interface NameZone {
  /** Unique: the id of a network or of a tenant. */
  zoneId: string;
  /** Names are relative to NAMES_DOMAIN. The records of one name follow each other. */
  records: readonly NameRecord[];
}

export type NameRecord =
  | { name: string; type: "A" | "AAAA"; address: string }
  | { name: string; type: "SRV"; port: number; target: string }
  /** The name exists and has no address. */
  | { name: string; type: "none" };

/** A client sees the names of its zones, and no others of the domain. */
export interface NameClient {
  /** The address from which the queries of a network arrive. */
  address: string;
  /** The ids of its zones. */
  zoneIds: readonly string[];
}

/**
 * The name server of a host, a process that another program starts and restarts. It answers the
 * names of the table, and forwards names outside of NAMES_DOMAIN to the resolvers of the host.
 */
export interface NameServer {
  /** The address at which it answers, on UDP and TCP port 53. */
  readonly address: string;
  /** Whether this host has the program. */
  isInstalled(): Promise<boolean>;
  /**
   * Whether `apply` has ever succeeded on this host, also in earlier processes. Otherwise the
   * operator may use the program only for something else.
   */
  hasServed(): Promise<boolean>;
  /**
   * Writes the table, and resolves when the server answers from it. A name that does not change is
   * answered at each moment. Even if the server does not run, the table is written, and the server
   * starts with it. A table that was applied before costs one call, which shows whether it answers.
   * Calls never overlap. It has a deadline, and rejects with NameServerError.
   */
  apply(table: NameTable, signal: AbortSignal): Promise<void>;
}

/** A call to the name server failed. Its message is a sentence for operators. */
export class NameServerError extends Error {
  override readonly name = "NameServerError";
}
