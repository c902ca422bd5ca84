import type { KeyedLock } from "../../lib/async/keyed-lock.ts";
import type { ConcurrencyLimit } from "../../lib/async/concurrency-limit.ts";
import type { Log } from "../../lib/log.ts";
import type { LinkNames } from "../model/link-names.ts";
import type { LinkPort } from "../ports/link-port.ts";
import type { SwitchPort } from "../ports/switch-port.ts";
import type { EndpointRecords } from "./endpoint-records.ts";
import type { SwitchFlows } from "./switch-flows.ts";

export interface DriverContext {
  records: EndpointRecords;
  names: LinkNames;
  links: LinkPort;
  switchPort: SwitchPort;
  flows: SwitchFlows;
  /**
   * Serializes the changes of one endpoint and its link, by endpoint id. Other keys contain a space
   * or a hyphen, so they never equal an endpoint id.
   */
  lock: KeyedLock;
  /** Bounds the changes of links and ports that run at the same time. */
  limit: ConcurrencyLimit;
  log: Log;
}
