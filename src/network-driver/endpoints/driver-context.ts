import type { KeyedLock } from "../../lib/async/keyed-lock.ts";
import type { ConcurrencyLimit } from "../../lib/async/concurrency-limit.ts";
import type { Log } from "../../lib/log.ts";
import type { LinkNames } from "../model/link-names.ts";
import type { LinkPort } from "../ports/link-port.ts";
import type { SwitchPort } from "../ports/switch-port.ts";
import type { Uplink } from "../ports/uplink.ts";
import type { EndpointRecords } from "./endpoint-records.ts";
import type { SwitchFlows } from "./switch-flows.ts";

/** The state and the ports that all calls and convergences of a driver share. */
export interface DriverContext {
  records: EndpointRecords;
  names: LinkNames;
  links: LinkPort;
  switchPort: SwitchPort;
  flows: SwitchFlows;
  /** Undefined if sets reach no external address. */
  uplink: Uplink | undefined;
  /** The MTU of the uplink, and of networks whose creator names none. */
  mtu: number;
  /** By endpoint id: changes of one endpoint and its link never overlap. */
  lock: KeyedLock;
  /** Recorded endpoints without link and port. Docker has left them, and will delete them. */
  detached: Set<string>;
  /** Endpoints with a link whose join has succeeded since this process started. */
  joined: Set<string>;
  /** Bounds the changes of links and ports that run at the same time for calls of Docker. */
  limit: ConcurrencyLimit;
  /** Bounds the changes of links and ports that run at the same time in a convergence. */
  correctionLimit: ConcurrencyLimit;
  log: Log;
}
