import * as decisions from "../../../src/db/queries/autoscaling/decisions.ts";
import * as demands from "../../../src/db/queries/autoscaling/demands.ts";
import * as hooks from "../../../src/db/queries/autoscaling/hooks.ts";
import * as states from "../../../src/db/queries/autoscaling/states.ts";
import * as readEvents from "../../../src/db/queries/events/read-events.ts";
import * as retention from "../../../src/db/queries/events/retention.ts";
import * as writeEvents from "../../../src/db/queries/events/write-events.ts";
import * as hostCredentials from "../../../src/db/queries/hosts/host-credentials.ts";
import * as capabilities from "../../../src/db/queries/hosts/capabilities.ts";
import * as fleetWatch from "../../../src/db/queries/hosts/fleet-watch.ts";
import * as hostPools from "../../../src/db/queries/hosts/host-pools.ts";
import * as lostHosts from "../../../src/db/queries/hosts/lost-hosts.ts";
import * as readHosts from "../../../src/db/queries/hosts/read-hosts.ts";
import * as scheduleHosts from "../../../src/db/queries/hosts/schedule-hosts.ts";
import * as agentRecords from "../../../src/db/queries/hosts/agent-records.ts";
import * as writeHosts from "../../../src/db/queries/hosts/write-hosts.ts";
import * as desiredSets from "../../../src/db/queries/hosts/desired-sets.ts";
import * as dueSets from "../../../src/db/queries/placement/due-sets.ts";
import * as fleet from "../../../src/db/queries/placement/fleet.ts";
import * as placements from "../../../src/db/queries/placement/placements.ts";
import * as idempotencyKeys from "../../../src/db/queries/runtime/idempotency-keys.ts";
import * as outbox from "../../../src/db/queries/runtime/outbox.ts";
import * as ping from "../../../src/db/queries/runtime/ping.ts";
import * as leases from "../../../src/db/queries/runtime/leases.ts";
import * as readServices from "../../../src/db/queries/services/read-services.ts";
import * as resizes from "../../../src/db/queries/services/resizes.ts";
import * as revisions from "../../../src/db/queries/services/revisions.ts";
import * as closeServices from "../../../src/db/queries/services/close-services.ts";
import * as writeServices from "../../../src/db/queries/services/write-services.ts";
import * as observedSets from "../../../src/db/queries/sets/observed-sets.ts";
import * as readSets from "../../../src/db/queries/sets/read-sets.ts";
import * as scaleIn from "../../../src/db/queries/sets/scale-in-candidates.ts";
import * as writeSets from "../../../src/db/queries/sets/write-sets.ts";
import * as tenantUsage from "../../../src/db/queries/tenancy/tenant-usage.ts";
import * as tenants from "../../../src/db/queries/tenancy/tenants.ts";
import * as tokens from "../../../src/db/queries/tenancy/tokens.ts";
import type { EmittedEvent } from "../../../src/contracts/api/event-texts.ts";
import { createServiceBody } from "../../../src/contracts/api/services.ts";
import { serviceBody } from "../api/test-api.ts";
import { tenantBody } from "../fleet/tenant-body.ts";
import { networkSamples } from "./network-samples.ts";
import { registrySamples } from "./registry-samples.ts";
import { operationSamples } from "./operation-samples.ts";
import { removedHostSamples } from "./removed-host-samples.ts";
import { rolloutSamples } from "./rollout-samples.ts";
import { sessionSamples } from "./session-samples.ts";
import { type Samples, volumeSamples } from "./volume-samples.ts";

const ids = ["a", "b"];
const amounts = { cpuMillis: 1, memoryBytes: 1, volumeBytes: 1, rootfsBytes: 1 };
const growth = { sets: 1, ...amounts };
const size = { cpuMillis: 1, memoryBytes: 1, volumeBytes: 1 };
const reason = { code: "code", text: "text" };
const job = { name: "place-sets", jobId: "job", payload: { serviceId: "svc" } } as const;
const grace = { lostMs: 1, unhealthyMs: 1, afterOutageMs: 1 };
const lease = { leaseSeconds: 1, acceptedGeneration: 1, agentVersion: "1" };
const usage = {
  used: amounts,
  allocatable: amounts,
  reclaimableVolumeBytes: 1,
  trashedVolumeBytes: 1,
  volumeReason: reason,
  disk: { imageBytes: 1, containerBytes: 1 },
  setMemoryBytes: { set: 1 },
};
const unknownUsage = { ...usage, disk: null, volumeReason: null };
const { onHostLost = "wait", ...body } = createServiceBody.parse(serviceBody("web"));
const service = {
  id: "svc",
  tenantId: "tnt",
  name: "web",
  generation: 1,
  revision: 1,
  targetRevision: 1,
  size,
  rootfsBytes: 1,
  replicas: 1,
  desiredReplicas: 1,
  priority: body.priority,
  placement: body.placement,
  onHostLost,
  autoscale: null,
  disruption: body.disruption,
  rollout: null,
  gatewayPorts: body.gatewayPorts,
  deleting: false,
};
const newService = { ...service, template: body.template, setIds: ids, jobs: [job] };
const tenant = tenantBody("acme");
const resize = { setId: "set", size };
const newSets = { tenantId: "tnt", revision: 1, priority: 1, ...amounts };
const placement = {
  placementId: "plc",
  setId: "set",
  hostId: "host",
  generation: 1,
  score: 1,
  because: { packing: 1 },
  overhead: { memoryBytes: 1, rootfsBytes: 1 },
};

const autoscaling: Samples = {
  insertDecision: (q) => [
    decisions.insertDecision(q, {
      id: "dec",
      tenantId: "tnt",
      serviceId: "svc",
      fromReplicas: 1,
      toReplicas: 2,
      acted: true,
      because: [],
      generation: 1,
    }),
  ],
  findLastDecision: (q) => [decisions.findLastDecision(q, "svc")],
  listDecisions: (q) => [
    decisions.listDecisions(q, "tnt", "web", "dec", 1),
    decisions.listDecisions(q, null, undefined, undefined, 1),
  ],
  deleteDecisions: (q) => [decisions.deleteDecisions(q, 1, 1)],
  listKnownEpisodes: (q) => [demands.listKnownEpisodes(q, "hook", [{ key: "k", startedAtMs: 1 }])],
  insertDemands: (q) => [
    demands.insertDemands(
      q,
      { id: "hook", tenantId: "tnt", serviceId: "svc", stabilizationSeconds: 1 },
      [
        {
          id: "dmd",
          key: "k",
          startedAtMs: 1,
          labels: {},
          state: "firing",
          rule: "0",
          identity: "",
          want: { step: 1 },
          holdMaxSeconds: undefined,
          wantedReplicas: 1,
          baseReplicas: 1,
        },
      ],
    ),
  ],
  updateLastReceived: (q) => [demands.updateLastReceived(q, ids)],
  deleteSurplusReleased: (q) => [demands.deleteSurplusReleased(q, "hook", 1, 1)],
  resolveDemands: (q) => [demands.resolveDemands(q, ids)],
  resolveHookDemands: (q) => [demands.resolveHookDemands(q, "hook")],
  reopenDemands: (q) => [demands.reopenDemands(q, ids)],
  releaseDueDemands: (q) => [demands.releaseDueDemands(q, "svc")],
  releaseStaleDemands: (q) => [demands.releaseStaleDemands(q, "svc")],
  releaseDemand: (q) => [demands.releaseDemand(q, "svc", "dmd")],
  listHeldRules: (q) => [demands.listHeldRules(q, "svc", 1)],
  updateDemandBase: (q) => [demands.updateDemandBase(q, "svc", 1, 1)],
  listDemands: (q) => [
    demands.listDemands(q, "svc", "dmd", 1),
    demands.listDemands(q, "svc", undefined, 1),
  ],
  findDemand: (q) => [demands.findDemand(q, "svc", "dmd")],
  deleteReleasedDemands: (q) => [demands.deleteReleasedDemands(q, 1, 1)],
  findHook: (q) => [hooks.findHook(q, "hook")],
  insertHook: (q) => [
    hooks.insertHook(q, {
      id: "hook",
      tenantId: "tnt",
      serviceId: "svc",
      name: "busy",
      rules: [],
      stabilizationSeconds: 1,
    }),
  ],
  countHooks: (q) => [hooks.countHooks(q, "svc")],
  listHooks: (q) => [hooks.listHooks(q, "svc", "hook", 1), hooks.listHooks(q, "svc", undefined, 1)],
  updateHook: (q) => [
    hooks.updateHook(q, "svc", "hook", { rules: [] }),
    hooks.updateHook(q, "svc", "hook", { stabilizationSeconds: 1 }),
  ],
  deleteHook: (q) => [hooks.deleteHook(q, "svc", "hook")],
  claimTruncationReport: (q) => [hooks.claimTruncationReport(q, "hook", 1)],
  findServiceId: (q) => [hooks.findServiceId(q, "tnt", "web")],
  readAutoscaleState: (q) => [states.readAutoscaleState(q, "svc")],
  markAutoscaleDue: (q) => [states.markAutoscaleDue(q, "svc")],
  updateAutoscaleState: (q) => [
    states.updateAutoscaleState(q, "svc", { scaled: "out", stepsTaken: {}, recheckAfterMs: 1 }),
    states.updateAutoscaleState(q, "svc", unscaled),
  ],
  claimDueServices: (q) => [states.claimDueServices(q, 1, 1)],
  postponeAutoscale: (q) => [states.postponeAutoscale(q, "svc", 1)],
  markOverlookedServicesDue: (q) => [states.markOverlookedServicesDue(q)],
  deleteAutoscaleState: (q) => [states.deleteAutoscaleState(q, "svc")],
  countReadySets: (q) => [states.countReadySets(q, "svc")],
};

const unscaled = { scaled: undefined, stepsTaken: {}, recheckAfterMs: null };
const formerPosition = { xid: "1", id: "1", origin: { serverEpoch: "1", atMs: 1 } };
const noFilter = { service: undefined, set: undefined, host: undefined, kind: undefined };
const filter = { service: "web", set: "set", host: "host", kind: "host-lost" } as const;
const emitted = {
  kind: "volume-purged",
  tenantId: "tnt",
  setId: "set",
  data: {},
} satisfies EmittedEvent;

const events: Samples = {
  listEvents: (q) => [
    readEvents.listEvents(q, "tnt", filter, 1, 1),
    readEvents.listEvents(q, "tnt", { ...filter, kind: "set-ready" }, 1, 1),
    readEvents.listEvents(q, null, noFilter, undefined, 1),
  ],
  readEventsAfter: (q) => [
    readEvents.readEventsAfter(q, "tnt", filter, formerPosition, 1),
    readEvents.readEventsAfter(q, null, noFilter, undefined, 1),
  ],
  readEventStreamLag: (q) => [readEvents.readEventStreamLag(q)],
  deleteOldSets: (q) => [retention.deleteOldSets(q, 1, 1)],
  deleteEvents: (q) => [retention.deleteEvents(q, 1, 1)],
  deleteSupersededPlacements: (q) => [
    retention.deleteSupersededPlacements(q, 1, { afterId: "", limit: 1 }),
  ],
  deleteOldRevisions: (q) => [retention.deleteOldRevisions(q, 1, 1)],
  deleteOldHooks: (q) => [retention.deleteOldHooks(q, 1, 1)],
  deleteOldTokens: (q) => [retention.deleteOldTokens(q, 1, 1)],
  deleteOldServices: (q) => [retention.deleteOldServices(q, 1, 1)],
  insertEvents: (q) => [writeEvents.insertEvents(q, [emitted])],
  insertEffects: (q) => [
    writeEvents.insertEffects(q, { jobs: [job], events: [emitted] }),
    writeEvents.insertEffects(q, { jobs: [job], events: [] }),
    writeEvents.insertEffects(q, { jobs: [], events: [emitted] }),
  ],
};

const pool = {
  overcommitPercent: amounts,
  highWaterPercent: amounts,
};

const hosts: Samples = {
  isFleetWatchDue: (q) => [fleetWatch.isFleetWatchDue(q)],
  recordFleetWatch: (q) => [fleetWatch.recordFleetWatch(q)],
  listHostPools: (q) => [
    hostPools.listHostPools(q, "default", 1),
    hostPools.listHostPools(q, undefined, 1),
  ],
  hasHostPool: (q) => [hostPools.hasHostPool(q, "default")],
  findHostPool: (q) => [hostPools.findHostPool(q, "default")],
  lockHostPools: (q) => [hostPools.lockHostPools(q)],
  putHostPool: (q) => [hostPools.putHostPool(q, "default", pool)],
  ensureHostPool: (q) => [hostPools.ensureHostPool(q, "default", pool)],
  markExpiredHostsLost: (q) => [lostHosts.markExpiredHostsLost(q, 1)],
  listDownHosts: (q) => [lostHosts.listDownHosts(q, grace, 1)],
  countReadyHostsByPool: (q) => [lostHosts.countReadyHostsByPool(q)],
  markReplacementHeld: (q) => [lostHosts.markReplacementHeld(q, ids)],
  endReplacementHolds: (q) => [
    lostHosts.endReplacementHolds(q, ids),
    lostHosts.endReplacementHolds(q, []),
  ],
  countHeldHosts: (q) => [lostHosts.countHeldHosts(q)],
  holdSetsWithVolumeData: (q) => [lostHosts.holdSetsWithVolumeData(q, grace, 1)],
  listServicesToReplace: (q) => [lostHosts.listServicesToReplace(q, ids, 1)],
  listHostsToReplace: (q) => [lostHosts.listHostsToReplace(q, "svc", ids, 1)],
  abandonSets: (q) => [lostHosts.abandonSets(q, "svc", ids, grace, 1)],
  findHost: (q) => [readHosts.findHost(q, "host")],
  listHosts: (q) => [readHosts.listHosts(q, "host", 1), readHosts.listHosts(q, undefined, 1)],
  updateHostScheduling: (q) => [
    scheduleHosts.updateHostScheduling(q, "host", { cordoned: true, draining: false }),
  ],
  updateHostLabels: (q) => [
    scheduleHosts.updateHostLabels(q, "host", 1, { labels: {}, taints: [], gatewayGroup: "edge" }),
    scheduleHosts.updateHostLabels(q, "host", undefined, {}),
  ],
  insertHost: (q) => [
    writeHosts.insertHost(q, {
      id: "host",
      name: "vm",
      pool: "default",
      zone: "z",
      rack: "r",
      labels: {},
      agentVersion: "1",
      credentialHash: "hash",
      allocatable: amounts,
      leaseSeconds: 1,
    }),
  ],
  useEnrollToken: (q) => [writeHosts.useEnrollToken(q, "tok")],
  lockAgentRecord: (q) => [agentRecords.lockAgentRecord(q, "host")],
  lockCapabilities: (q) => [capabilities.lockCapabilities(q, "host")],
  storeCapabilities: (q) => [capabilities.storeCapabilities(q, "host", null)],
  countSetsThatNeed: (q) => [capabilities.countSetsThatNeed(q, "host", ["init"])],
  countFailedSelfTests: (q) => [capabilities.countFailedSelfTests(q)],
  updateAgentRecord: (q) => [agentRecords.updateAgentRecord(q, "host", null)],
  findHostLease: (q) => [
    writeHosts.findHostLease(q, { hostId: "host" }),
    writeHosts.findHostLease(q, { credentialHash: "hash" }),
    writeHosts.findHostLease(q, { anyCredentialHash: "hash" }),
  ],
  findHostLeases: (q) => [
    writeHosts.findHostLeases(q, ["hash"]),
    writeHosts.findHostLeases(q, ["hash", "other"]),
  ],
  lockHostCredentials: (q) => [hostCredentials.lockHostCredentials(q, "host")],
  requestRotation: (q) => [hostCredentials.requestRotation(q, "host")],
  storeNextCredential: (q) => [hostCredentials.storeNextCredential(q, "host", "hash")],
  promoteNextCredential: (q) => [hostCredentials.promoteNextCredential(q, "hash")],
  renewLease: (q) => [writeHosts.renewLease(q, "host", lease)],
  renewOnlyLease: (q) => [writeHosts.renewOnlyLease(q, "host", lease)],
  renewLeaseAfterRejection: (q) => [writeHosts.renewLeaseAfterRejection(q, "host", 1)],
  storeRefusedGeneration: (q) => [writeHosts.storeRefusedGeneration(q, "host", 1)],
  raiseHostGeneration: (q) => [writeHosts.raiseHostGeneration(q, "host", 1)],
  updateHostUsage: (q) => [writeHosts.updateHostUsage(q, "host", usage, lease)],
  tryUpdateHostUsage: (q) => [writeHosts.tryUpdateHostUsage(q, "host", unknownUsage, lease)],
  updateHostImages: (q) => [writeHosts.updateHostImages(q, "host", ids)],
  updateHostState: (q) => [
    writeHosts.updateHostState(q, "host", "ready", null, 1),
    writeHosts.updateHostState(q, "host", "unhealthy", reason, 1),
  ],
  listDesiredSets: (q) => [desiredSets.listDesiredSets(q, "host", 1, 1)],
};

const placing: Samples = {
  readPendingSets: (q) => [dueSets.readPendingSets(q, ids)],
  listDueSets: (q) => [dueSets.listDueSets(q, 1)],
  readRefreshPosition: (q) => [fleet.readRefreshPosition(q)],
  listChangedHosts: (q) => [fleet.listChangedHosts(q, "1")],
  listChangedSets: (q) => [fleet.listChangedSets(q, "1")],
  listHostsAfter: (q) => [fleet.listHostsAfter(q, { afterId: "", limit: 1 })],
  listSetsOnHosts: (q) => [fleet.listSetsOnHosts(q, ids)],
  listPlacedSets: (q) => [fleet.listPlacedSets(q, "svc")],
  listHostIds: (q) => [fleet.listHostIds(q)],
  listAllHostPools: (q) => [fleet.listAllHostPools(q)],
  listFleetHosts: (q) => [fleet.listFleetHosts(q, ids)],
  lockFleetHosts: (q) => [fleet.lockFleetHosts(q, ids)],
  tryLockFleetHosts: (q) => [fleet.tryLockFleetHosts(q, ids)],
  tryLockPlacement: (q) => [placements.tryLockPlacement(q)],
  lockPlacement: (q) => [placements.lockPlacement(q, 1_000)],
  listDepartingSets: (q) => [placements.listDepartingSets(q, "svc_1")],
  listRepulsions: (q) => [placements.listRepulsions(q, [{ tenantId: "tnt", name: "web" }])],
  listServiceIds: (q) => [placements.listServiceIds(q, [{ tenantId: "tnt", name: "web" }])],
  commitPlacements: (q) => [
    placements.commitPlacements(q, [placement], 1, "1"),
    placements.commitPlacements(q, [placement], 1),
    placements.commitPlacements(q, [placement, { ...placement, setId: "b" }], 1),
  ],
  recordRejections: (q) => [
    placements.recordRejections(
      q,
      [
        {
          setId: "set",
          generation: 1,
          text: "text",
          reasons: [{ reason: "cordoned", hosts: 1 }],
          hostsTotal: 1,
          retryAfterMs: 1,
          forgetAvoided: false,
        },
      ],
      1,
    ),
  ],
};

const runtime: Samples = {
  claimIdempotencyKey: (q) => [idempotencyKeys.claimIdempotencyKey(q, "scope", "key")],
  insertIdempotencyKey: (q) => [
    idempotencyKeys.insertIdempotencyKey(q, "scope", "key", {
      requestHash: "hash",
      status: 200,
      body: "{}",
    }),
  ],
  deleteIdempotencyKeys: (q) => [idempotencyKeys.deleteIdempotencyKeys(q, 1, 1)],
  claimOutbox: (q) => [outbox.claimOutbox(q, ["place-sets"], 1)],
  releaseOutbox: (q) => [outbox.releaseOutbox(q, [1, 2])],
  deleteOutbox: (q) => [outbox.deleteOutbox(q, [1, 2])],
  updateOutboxErrors: (q) => [outbox.updateOutboxErrors(q, [1], "error")],
  deleteParkedOutbox: (q) => [outbox.deleteParkedOutbox(q, ["place-sets"], 1, 1)],
  readOutboxState: (q) => [outbox.readOutboxState(q)],
  pingDatabase: (q) => [ping.pingDatabase(q)],
  claimSweepLease: (q) => [leases.claimSweepLease(q, "sweep", "lease", 1)],
  renewSweepLease: (q) => [leases.renewSweepLease(q, "sweep", "lease", 1)],
  releaseSweepLease: (q) => [leases.releaseSweepLease(q, "sweep", "lease")],
};

const services: Samples = {
  findService: (q) => [readServices.findService(q, "tnt", "web")],
  findServices: (q) => [readServices.findServices(q, [{ tenantId: "tnt", name: "web" }])],
  listServices: (q) => [
    readServices.listServices(q, "tnt", "svc", 1),
    readServices.listServices(q, null, undefined, 1),
  ],
  listSetsToResize: (q) => [
    resizes.listSetsToResize(q, "svc", size, 1),
    resizes.listSetsToResize(
      q,
      "svc",
      { cpuMillis: 1, memoryBytes: undefined, volumeBytes: undefined },
      1,
    ),
  ],
  lockSizedSets: (q) => [resizes.lockSizedSets(q, ids)],
  readMemoryUsage: (q) => [resizes.readMemoryUsage(q, "svc", 1)],
  resizeSets: (q) => [resizes.resizeSets(q, [resize])],
  retargetOperations: (q) => [resizes.retargetOperations(q, [resize])],
  insertWaitingResizes: (q) => [resizes.insertWaitingResizes(q, [{ ...resize, reason }], true)],
  confirmResizes: (q) => [resizes.confirmResizes(q, "host", ids)],
  revertResizes: (q) => [resizes.revertResizes(q, "host", [{ setId: "set", reason }])],
  upsertServiceResize: (q) => [
    resizes.upsertServiceResize(q, { serviceId: "svc", mayMove: true, ...size }),
  ],
  findServiceResize: (q) => [resizes.findServiceResize(q, "svc")],
  updateRevisionVolumes: (q) => [resizes.updateRevisionVolumes(q, "svc", [1, 2], 1)],
  deleteServiceResize: (q) => [resizes.deleteServiceResize(q, "svc")],
  listServiceResizes: (q) => [resizes.listServiceResizes(q, 1)],
  lockServiceByName: (q) => [writeServices.lockServiceByName(q, "tnt", "web")],
  countRemainingSets: (q) => [writeServices.countRemainingSets(q, "svc")],
  findServiceByName: (q) => [writeServices.findServiceByName(q, "tnt", "web")],
  lockServiceById: (q) => [writeServices.lockServiceById(q, "svc")],
  lockServiceBriefly: (q) => [writeServices.lockServiceBriefly(q, "svc")],
  claimServiceById: (q) => [writeServices.claimServiceById(q, "svc")],
  lockServicesById: (q) => [writeServices.lockServicesById(q, ids)],
  insertServices: (q) => [
    writeServices.insertServices(q, "tnt", [newService]),
    writeServices.insertServices(q, "tnt", [newService], { growthWithAmpleQuota: growth }),
  ],
  updateService: (q) => [writeServices.updateService(q, service)],
  insertRevision: (q) => [revisions.insertRevision(q, "svc", body.template)],
  getSizedTemplate: (q) => [writeServices.getSizedTemplate(q, service)],
  hasStaticAddress: (q) => [writeServices.hasStaticAddress(q, "svc", [1, 2])],
  findTemplate: (q) => [writeServices.findTemplate(q, "svc", 1)],
  closeDeletedServices: (q) => [
    closeServices.closeDeletedServices(q, 1),
    closeServices.closeDeletedServices(q, 1, ["service"]),
  ],
  deleteUnusedRevisions: (q) => [
    revisions.deleteUnusedRevisions(q, "svc", { numberMax: 1, limit: 1 }),
  ],
  listUnbalancedServices: (q) => [writeServices.listUnbalancedServices(q, 1)],
};

const sets: Samples = {
  lockSetsOnHost: (q) => [observedSets.lockSetsOnHost(q, "host", ids)],
  updateObservedSets: (q) => [
    observedSets.updateObservedSets(q, "host", [
      {
        setId: "set",
        state: "running",
        ready: true,
        reason,
        address: null,
        sized: true,
        containers: [],
      },
    ]),
  ],
  markSetsLeaving: (q) => [observedSets.markSetsLeaving(q, "host", ids)],
  releaseSets: (q) => [observedSets.releaseSets(q, "host", [{ setId: "set", placeAgain: null }])],
  findSetById: (q) => [readSets.findSetById(q, "tnt", "set"), readSets.findSetById(q, null, "set")],
  hasDeletedSet: (q) => [
    readSets.hasDeletedSet(q, "tnt", "set"),
    readSets.hasDeletedSet(q, null, "set"),
  ],
  listSets: (q) => [
    readSets.listSets(q, "tnt", { service: "web", host: "host", state: "running" }, "set", 1),
    readSets.listSets(
      q,
      null,
      { service: undefined, host: undefined, state: undefined },
      undefined,
      1,
    ),
  ],
  findPlacement: (q) => [readSets.findPlacement(q, "set")],
  findRejection: (q) => [readSets.findRejection(q, "set")],
  listScaleInCandidates: (q) => [scaleIn.listScaleInCandidates(q, "svc", 1)],
  insertPendingSets: (q) => [writeSets.insertPendingSets(q, { ids, serviceId: "svc", ...newSets })],
  countLiveSets: (q) => [writeSets.countLiveSets(q, "svc")],
  lockHosts: (q) => [writeSets.lockHosts(q, ids)],
  lockFreeHosts: (q) => [writeSets.lockFreeHosts(q, ids)],
  listHostsOfSets: (q) => [writeSets.listHostsOfSets(q, ids)],
  confirmUpdates: (q) => [observedSets.confirmUpdates(q, ids)],
  updatePendingPriority: (q) => [writeSets.updatePendingPriority(q, "svc", 1)],
  markSetsDeleted: (q) => [writeSets.markSetsDeleted(q, ids, ids)],
  findSet: (q) => [writeSets.findSet(q, "set", "tnt"), writeSets.findSet(q, "set", null)],
  updatePlacedSet: (q) => [
    writeSets.updatePlacedSet(q, "set", "host", { desired: "stopped" }),
    writeSets.updatePlacedSet(q, "set", "host", { restart: true }),
  ],
  retryPendingSets: (q) => [writeSets.retryPendingSets(q, 1)],
  findLongestOverdueMs: (q) => [writeSets.findLongestOverdueMs(q)],
};

const tenancy: Samples = {
  lockTenant: (q) => [tenantUsage.lockTenant(q, "tnt")],
  getTenantUsage: (q) => [tenantUsage.getTenantUsage(q, "tnt", growth)],
  sumSetsOnDownHosts: (q) => [tenantUsage.sumSetsOnDownHosts(q, "tnt")],
  insertTenant: (q) => [tenants.insertTenant(q, "tnt", tenant)],
  ensureTenant: (q) => [tenants.ensureTenant(q, "tnt", tenant)],
  findTenantByName: (q) => [tenants.findTenantByName(q, "acme")],
  lockTenantByName: (q) => [tenants.lockTenantByName(q, "acme")],
  updateTenant: (q) => [tenants.updateTenant(q, { ...tenant, id: "tnt" })],
  getGrants: (q) => [tenants.getGrants(q, "tnt")],
  listServiceRequests: (q) => [tenants.listServiceRequests(q, "tnt", "", 1)],
  listTenants: (q) => [tenants.listTenants(q, "tnt", 1), tenants.listTenants(q, undefined, 1)],
  insertToken: (q) => [
    tokens.insertToken(q, {
      id: "tok",
      name: "ci",
      role: "tenant",
      tenantId: "tnt",
      hookId: null,
      pool: null,
      secretHash: "hash",
      expiresInSeconds: null,
    }),
  ],
  findCallerBySecretHash: (q) => [tokens.findCallerBySecretHash(q, "hash")],
  lockToken: (q) => [tokens.lockToken(q, "tok")],
  updateTokenRotated: (q) => [tokens.updateTokenRotated(q, "tok", "tok2", 1)],
  endHookTokens: (q) => [tokens.endHookTokens(q, "hook", 1)],
  findToken: (q) => [tokens.findToken(q, "tok")],
  listTokens: (q) => [tokens.listTokens(q, "tok", 1), tokens.listTokens(q, undefined, 1)],
  updateTokenRevoked: (q) => [tokens.updateTokenRevoked(q, "tok")],
  hasAdminToken: (q) => [tokens.hasAdminToken(q)],
};

export const querySamples: Samples = {
  ...autoscaling,
  ...events,
  ...hosts,
  ...networkSamples,
  ...operationSamples,
  ...placing,
  ...registrySamples,
  ...removedHostSamples,
  ...rolloutSamples,
  ...runtime,
  ...services,
  ...sessionSamples,
  ...sets,
  ...tenancy,
  ...volumeSamples,
};
