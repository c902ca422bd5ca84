import { type Flow, flowTables } from "../../../src/network-driver/flows/flow.ts";
import { matchesField } from "./match-field.ts";

/** A frame as flows see it: the words of its protocols, and its fields by the names of matches. */
export interface FlowFrame {
  protocols: readonly string[];
  fields: Readonly<Record<string, string>>;
  /** The state of the frame's connection, once it is tracked. */
  connection?: "new" | "est" | "inv";
  /** The destination that a translation of the connection restores. */
  translatedTo?: string;
  /** The source that a translation of the connection restores. */
  translatedFrom?: string;
  /** The label of the connection, which is 0x0 unless a commit has set it. */
  label?: string;
  /** A TCP segment opens a connection by default. */
  tcpFlags?: readonly ("syn" | "ack")[];
  /** The hash of the frame's addresses and ports: 0 by default. */
  hash?: number;
}

export interface FlowOutput {
  /** The number of the port, or "in_port". */
  port: string;
  fields: Readonly<Record<string, string>>;
}

export interface FlowResult {
  outputs: FlowOutput[];
  /** Outputs to the port from which the frame came, which OpenFlow suppresses. */
  returns: number;
  zonesTracked: string[];
  zonesCommitted: string[];
  commits: FlowCommit[];
  /** The fields of the frame in the table egress, as rules see them. */
  atEgress?: Readonly<Record<string, string>>;
}

export interface FlowCommit {
  /** The destination before a translation. */
  destination: string | undefined;
  /** Such as "dst=10.64.0.3". */
  translation: string | undefined;
  label: string | undefined;
}

/** Names of fields in actions that differ from the name in matches. */
const fieldNames: Readonly<Record<string, string>> = {
  eth_src: "dl_src",
  eth_dst: "dl_dst",
  NXM_OF_ETH_SRC: "dl_src",
  NXM_OF_ETH_DST: "dl_dst",
  NXM_NX_ARP_SHA: "arp_sha",
  NXM_NX_ARP_THA: "arp_tha",
  NXM_OF_ARP_SPA: "arp_spa",
  NXM_OF_ARP_TPA: "arp_tpa",
  NXM_NX_IPV6_SRC: "ipv6_src",
  NXM_NX_IPV6_DST: "ipv6_dst",
  NXM_NX_ND_TARGET: "nd_target",
  NXM_NX_ND_TLL: "nd_tll",
  tcp_dst: "tp_dst",
  udp_dst: "tp_dst",
};
const settable = new Set(
  "arp_op icmpv6_type nd_options_type nd_reserved nd_sll tun_id tun_dst nw_src nw_dst reg0 reg1 reg2 reg3 reg4 reg5 reg6 reg8 reg9 reg10 reg11".split(
    " ",
  ),
);
const STEPS_MAX = 20;

/**
 * Returns a model of the bridge with these flows. It knows the actions that the compiler uses, and
 * throws for others, such as one that floods, and where two flows of one priority match.
 */
export function interpretFlows(flows: readonly Flow[]): (frame: FlowFrame) => FlowResult {
  const tables = new Map<number, Map<number, Flow[]>>();
  for (const flow of flows) {
    const table = tables.get(flow.table) ?? new Map<number, Flow[]>();
    tables.set(flow.table, table);
    table.set(flow.priority, [...(table.get(flow.priority) ?? []), flow]);
  }
  return (frame) => {
    const state = new FrameState(frame);
    let next: number | undefined = 0;
    for (let step = 0; next !== undefined; step += 1) {
      state.visit(next);
      if (step === STEPS_MAX) throw new Error("the frame does not leave the tables");
      const flow: Flow | undefined = findFlow(tables.get(next), state);
      next = flow && state.perform(flow);
    }
    return state.result;
  };
}

function findFlow(
  table: ReadonlyMap<number, readonly Flow[]> = new Map(),
  state: FrameState,
): Flow | undefined {
  for (const priority of [...table.keys()].sort((a, b) => b - a)) {
    const found = table.get(priority)?.filter(({ match }) => state.matches(match)) ?? [];
    const same = new Set(found.map(({ table: of, actions }) => `${of} ${actions}`));
    if (same.size > 1) throw new Error(`ambiguous: ${found.map(({ match }) => match).join(" | ")}`);
    if (found[0]) return found[0];
  }
  return undefined;
}

class FrameState {
  readonly result: FlowResult = {
    outputs: [],
    returns: 0,
    zonesTracked: [],
    zonesCommitted: [],
    commits: [],
  };
  readonly #frame: FlowFrame;
  readonly #fields: Record<string, string>;
  #isTracked = false;

  constructor(frame: FlowFrame) {
    this.#frame = frame;
    const registers = Array.from({ length: 12 }, (_, index) => [`reg${index}`, "0"]);
    this.#fields = { ...Object.fromEntries(registers), vlan_tci: "0x0", ...frame.fields };
  }

  visit(table: number): void {
    if (table === flowTables.egress) this.result.atEgress = { ...this.#fields };
  }

  matches(match: string): boolean {
    return match.split(",").every((part) => {
      const [name = "", value] = part.split("=");
      if (name === "") return true;
      if (value === undefined) return this.#frame.protocols.includes(name);
      if (name === "ct_state")
        return this.#isTracked && value === `+trk+${this.#frame.connection ?? "new"}`;
      if (name === "tcp_flags") return this.#hasTcpFlag(value);
      if (name === "ct_label") return this.#isTracked && value === (this.#frame.label ?? "0x0");
      return matchesField(this.#fields[name], value);
    });
  }

  /** Knows one flag with a sign, such as "-syn". */
  #hasTcpFlag(wanted: string): boolean {
    const { tcpFlags = ["syn"] } = this.#frame;
    const isSet = tcpFlags.some((flag) => flag === wanted.slice(1));
    return isSet === wanted.startsWith("+");
  }

  /** Performs the actions of a flow and returns the next table. */
  perform({ table, actions }: Flow): number | undefined {
    let next: number | undefined;
    for (const action of actions.match(/[a-z_]+\((?:[^()]|\([^()]*\))*\)|[^,]+/g) ?? []) {
      const set = /^set_field:(.+)->(\w+)$/.exec(action);
      const move = /^move:(\w+)\[\]->(\w+)\[\]$/.exec(action);
      const output = /^output:NXM_NX_REG(\d)\[\]$/.exec(action);
      const direct = /^output:(\d+)$/.exec(action)?.[1];
      const tracking = /^ct\((.+)\)$/.exec(action)?.[1];
      if (set) this.#set(set[2] ?? "", set[1] ?? "");
      else if (move) this.#set(nameField(move[2]), this.#fields[nameField(move[1])] ?? "");
      else if (output) this.#output(this.#fields[`reg${output[1]}`] ?? "");
      else if (direct !== undefined) this.#output(direct);
      else if (action === "in_port") this.#output("in_port");
      else if (action.startsWith("goto_table:")) next = goForward(table, Number(action.slice(11)));
      else if (action.startsWith("resubmit(,")) next = Number.parseInt(action.slice(10), 10);
      else if (action.startsWith("multipath(")) this.#choose(action);
      else if (tracking !== undefined) next = this.#track(tracking);
      else if (action !== "drop") throw new Error(`unknown action ${action}`);
    }
    return next;
  }

  #set(name: string, value: string): void {
    const field = nameField(name);
    if (!settable.has(field) && !Object.values(fieldNames).includes(field))
      throw new Error(`unknown field ${name}`);
    this.#fields[field] = value;
  }

  #choose(action: string): void {
    const parts = /^multipath\(symmetric_l3l4\+udp,0,modulo_n,(\d+),0,(\w+)\[\]\)$/.exec(action);
    if (!parts) throw new Error(`unknown action ${action}`);
    this.#set(nameField(parts[2]), String((this.#frame.hash ?? 0) % Number(parts[1])));
  }

  #track(text: string): number | undefined {
    const zone = /zone=(\d+)/.exec(text)?.[1] ?? this.#fields["reg1"] ?? "";
    this.#isTracked = true;
    const isIpv6 = this.#frame.protocols.includes("ipv6");
    const [source, destination] = isIpv6 ? ["ipv6_src", "ipv6_dst"] : ["nw_src", "nw_dst"];
    const translation = /nat\((\w+=[\da-f.:]+)\)/.exec(text)?.[1];
    if (text.startsWith("commit")) {
      this.result.zonesCommitted.push(zone);
      const label = /set_field:(\w+)->ct_label/.exec(text)?.[1];
      this.result.commits.push({ destination: this.#fields[destination], translation, label });
    } else this.result.zonesTracked.push(zone);
    const [, direction, address = "", port] =
      /^(src|dst)=([\d.]+|[\da-f:]+)(?::(\d+))?$/.exec(translation ?? "") ?? [];
    if (direction !== undefined) this.#fields[direction === "src" ? source : destination] = address;
    if (port !== undefined) this.#fields["tp_dst"] = port;
    const { translatedTo, translatedFrom } = this.#frame;
    if (text.endsWith(",nat") && translatedTo !== undefined)
      this.#fields[destination] = translatedTo;
    if (text.endsWith(",nat") && translatedFrom !== undefined)
      this.#fields[source] = translatedFrom;
    const table = /table=(\d+)/.exec(text)?.[1];
    return table === undefined ? undefined : Number(table);
  }

  #output(port: string): void {
    if (port === this.#fields["in_port"]) this.result.returns += 1;
    else this.result.outputs.push({ port, fields: { ...this.#fields } });
  }
}

/** OpenFlow refuses a goto_table to a lower table. */
function goForward(table: number, next: number): number {
  if (next <= table) throw new Error(`goto_table from ${table} to ${next}`);
  return next;
}

function nameField(name = ""): string {
  return fieldNames[name] ?? name.replace(/^NXM_NX_REG/, "reg");
}
