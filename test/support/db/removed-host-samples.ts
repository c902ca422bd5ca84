import * as removeHosts from "../../../src/db/queries/hosts/remove-hosts.ts";
import * as unknownSets from "../../../src/db/queries/hosts/unknown-sets.ts";
import type { Samples } from "./volume-samples.ts";

const ids = ["a", "b"];

/** Calls of the queries about deleted hosts, and about sets that the database does not know. */
export const removedHostSamples: Samples = {
  listServicesOnHost: (q) => [removeHosts.listServicesOnHost(q, "host", 1)],
  lockRemovableHost: (q) => [removeHosts.lockRemovableHost(q, "host")],
  lockHostContent: (q) => [removeHosts.lockHostContent(q, "host", ids)],
  listDeletedHosts: (q) => [removeHosts.listDeletedHosts(q, "machine", 16)],
  findDeletedOnOtherMachines: (q) => [removeHosts.findDeletedOnOtherMachines(q, "host", ids)],
  bindDeletedHost: (q) => [removeHosts.bindDeletedHost(q, "host", "machine")],
  isHostDeleted: (q) => [
    removeHosts.isHostDeleted(q, { hostId: "host" }),
    removeHosts.isHostDeleted(q, { credentialHash: "hash" }),
  ],
  deleteOldHostRecords: (q) => [removeHosts.deleteOldHostRecords(q, 1, 1)],
  deleteHostRow: (q) => [removeHosts.deleteHostRow(q, "host")],
  readUnlistedSets: (q) => [unknownSets.readUnlistedSets(q, "host", ids)],
  storeUnknownSets: (q) => [unknownSets.storeUnknownSets(q, "host", ids)],
  addUnknownSets: (q) => [unknownSets.addUnknownSets(q, "host", ids)],
  noteReplacements: (q) => [unknownSets.noteReplacements(q, "host", ids)],
  orderUnknownSetsDeleted: (q) => [unknownSets.orderUnknownSetsDeleted(q, "host")],
};
