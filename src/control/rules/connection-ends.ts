import { SETS_EXPLAINED_MAX } from "../../contracts/api/rule-explanation.ts";
import { AppError, notFound } from "../../contracts/common/app-error.ts";
import { isName } from "../../contracts/common/limits.ts";
import {
  listInterfacesOfService,
  listInterfacesOfSet,
  listInterfacesWithAddress,
  listServicesWithAddress,
  type SetInterface,
} from "../../db/queries/rules/connection-ends.ts";
import { findServiceByName } from "../../db/queries/services/write-services.ts";
import { findSetById } from "../../db/queries/sets/read-sets.ts";
import { formatAddress, type IpFamily, parseAddress } from "../../lib/ip/ip-address.ts";
import type { ControlContext } from "../runtime/context.ts";

/** One end of a connection, as a request names it. */
export interface NamedEnd {
  /** Such as `Set set_…` or `Service menu-web`, at the start of a sentence. */
  description: string;
  /** The sets with their addresses in networks. */
  interfaces: readonly SetInterface[];
  /** The address that the request names, if it names one. */
  address: { text: string; family: IpFamily } | undefined;
  /** The end is a service with more sets than `interfaces` has. */
  isCut: boolean;
  /** A sentence about the end, for the notes. */
  note?: string;
}

/** Finds what a request names: the id of a set, the name of a service, or an address. */
export async function findNamedEnd(
  ctx: ControlContext,
  tenantId: string,
  text: string,
  parameter: "from" | "to",
): Promise<NamedEnd> {
  const parsed = parseAddress(text);
  if (parsed) {
    const address = { text: formatAddress(parsed), family: parsed.family };
    const end = await findAddressEnd(ctx, tenantId, address);
    // No set sends from the address of a service.
    const ofService =
      end.interfaces.length === 0 && parameter === "to"
        ? await findServiceAddressEnd(ctx, tenantId, address)
        : undefined;
    return ofService ?? end;
  }
  if (/^set_[0-9a-z]+$/.test(text)) {
    if (!(await findSetById(ctx.db, tenantId, text))) throw notFound("set");
    const interfaces = await listInterfacesOfSet(ctx.db, tenantId, text);
    return { description: `Set ${text}`, interfaces, address: undefined, isCut: false };
  }
  if (!isName(text)) throw badEnd(parameter);
  const service = await findServiceByName(ctx.db, tenantId, text);
  if (!service) throw notFound("service");
  const ofSets = await listFirstSets(ctx, service.id);
  return { description: `Service ${text}`, address: undefined, ...ofSets };
}

type Address = NonNullable<NamedEnd["address"]>;

async function findAddressEnd(
  { db }: ControlContext,
  tenantId: string,
  address: Address,
): Promise<NamedEnd> {
  const interfaces = await listInterfacesWithAddress(db, tenantId, address.text);
  // A set of both families has another address. The request is about this one.
  const only = interfaces.map((each) => ({ ...each, addresses: [address.text] }));
  return { description: `Address ${address.text}`, interfaces: only, address, isCut: false };
}

/** The sets behind a service address. The rules see the set that a connection reaches. */
async function findServiceAddressEnd(
  ctx: ControlContext,
  tenantId: string,
  address: Address,
): Promise<NamedEnd | undefined> {
  const services = await listServicesWithAddress(ctx.db, tenantId, address.text);
  const [first] = services;
  if (!first) return undefined;
  const ends = await Promise.all(
    services.map(async ({ serviceId, networkId }) => {
      const { interfaces, isCut } = await listFirstSets(ctx, serviceId);
      const here = interfaces.filter((each) => each.networkId === networkId);
      return { isCut, interfaces: here.map((each) => ofFamily(each, address.family)) };
    }),
  );
  return {
    description: `Service address ${address.text}`,
    interfaces: ends.flatMap(({ interfaces }) => interfaces),
    address,
    isCut: ends.some(({ isCut }) => isCut),
    note: `${address.text} is an address of service ${first.service}. The rules decide about the set that a connection reaches.`,
  };
}

function ofFamily(each: SetInterface, family: IpFamily): SetInterface {
  const addresses = each.addresses.filter((text) => parseAddress(text)?.family === family);
  return { ...each, addresses };
}

async function listFirstSets(
  { db }: ControlContext,
  serviceId: string,
): Promise<Pick<NamedEnd, "interfaces" | "isCut">> {
  const interfaces = await listInterfacesOfService(db, serviceId, SETS_EXPLAINED_MAX + 1);
  const sets = new Set(interfaces.map(({ setId }) => setId));
  const shown = new Set([...sets].slice(0, SETS_EXPLAINED_MAX));
  return {
    interfaces: interfaces.filter(({ setId }) => shown.has(setId)),
    isCut: sets.size > shown.size,
  };
}

function badEnd(parameter: string): AppError {
  const detail = "expected the id of a set, the name of a service, or an address";
  return new AppError("invalid-request", {
    detail: `${parameter}: ${detail}.`,
    errors: [{ pointer: parameter, detail }],
  });
}
