import { access, readFile, stat } from "node:fs/promises";
import { z } from "zod";
import { CommandError, runCommand } from "../exec.ts";
import { deviceNumbers } from "../../lib/linux/block-device.ts";
import {
  type BlockListing,
  type BlockCapacity,
  type BlockStore,
  type BlockVolume,
  checkSize,
  checkTags,
  checkVolumeId,
  countOtherHosts,
  isVolumeId,
  type VolumeTags,
  volumeError,
} from "./block-store.ts";
import { deviceBusy } from "./device-holders.ts";

const lvmTimeoutMs = 60_000;
const sectorBytes = 512;
/** This part of the area for metadata is for changes of existing volumes, such as their trash. */
const metadataReserve = 0.1;
/** A volume of Berth has about 700 bytes of metadata, and at least these. */
const recordBytesMin = 560;

/** A part of LVM's messages for a device that a process or another device holds. */
const inUsePattern = /\bin use\b|used by another/i;
/** A part of LVM's message for metadata that exceed a half of their area. */
const metadataFullPattern = /too large for circular buffer/i;

export interface LvmStoreOptions {
  hostId: string;
  /** A volume group of the operator. Berth creates and deletes only logical volumes in it. */
  volumeGroup: string;
}

const listed = z.object({
  report: z.array(
    z.object({
      lv: z.array(z.object({ lv_name: z.string(), lv_size: z.string(), lv_tags: z.string() })),
    }),
  ),
});
const groups = z.object({
  report: z.array(
    z.object({
      vg: z.array(
        z.object({
          vg_size: z.string(),
          vg_free: z.string(),
          vg_mda_size: z.string(),
          vg_mda_free: z.string(),
        }),
      ),
    }),
  ),
});

/**
 * Volumes as logical volumes of one volume group. Tags are LVM tags, such as `berth.set=set_…`, and
 * change in one commit of the group's metadata. A volume without this host's tag is not Berth's.
 * Sizes are rounded up to the group's extents.
 */
export function createLvmStore({ hostId, volumeGroup }: LvmStoreOptions): BlockStore {
  return new LvmStore(hostId, volumeGroup);
}

class LvmStore implements BlockStore {
  readonly hasImages = false;
  readonly #hostId: string;
  readonly #volumeGroup: string;
  /** The last measurement of the capacity found the area for metadata full. */
  #isMetadataFull = false;

  constructor(hostId: string, volumeGroup: string) {
    this.#hostId = hostId;
    this.#volumeGroup = volumeGroup;
  }

  async list(signal: AbortSignal): Promise<BlockListing> {
    const options = ["-o", "lv_name,lv_size,lv_tags", ...reportOptions];
    const output = await this.#lvm("lvs", [...options, this.#volumeGroup], signal);
    const rows = listed.parse(JSON.parse(output)).report.flatMap(({ lv }) => lv);
    const volumes: BlockVolume[] = [];
    const unreadable: string[] = [];
    const otherHostIds: string[] = [];
    for (const { lv_name: volumeId, lv_size, lv_tags } of rows) {
      const members = readMembers(lv_tags.split(","));
      const hostId = members.get("host");
      if (hostId === undefined || !isVolumeId(volumeId)) continue;
      if (hostId !== this.#hostId) {
        otherHostIds.push(hostId);
        continue;
      }
      const tags = toTags(members);
      if (tags) volumes.push({ volumeId, sizeBytes: Number(lv_size), tags });
      else unreadable.push(volumeId);
    }
    volumes.sort((a, b) => (a.volumeId < b.volumeId ? -1 : 1));
    const otherHosts = countOtherHosts(otherHostIds);
    return { volumes, unreadable: unreadable.sort(), otherHosts };
  }

  async create(volume: BlockVolume, signal: AbortSignal): Promise<void> {
    const volumeId = checkVolumeId(volume.volumeId);
    const tags = this.#tagArguments("--addtag", volume.tags);
    // The capacity is measured for each report. Another command here would delay each set.
    if (this.#isMetadataFull && (await this.capacity(signal)).isMetadataFull)
      throw metadataFull(this.#volumeGroup);
    // -Wy -y: wipe the signatures of an earlier volume in these blocks.
    const size = formatSize(volume.sizeBytes);
    const args = ["-Wy", "-y", ...tags, "-n", volumeId, "-L", size, this.#volumeGroup];
    try {
      await this.#lvm("lvcreate", args, signal);
    } catch (error) {
      const text = getMessage(error);
      if (/insufficient free space|not enough free/i.test(text)) {
        throw volumeError("volume-no-room", `volume group ${this.#volumeGroup}: ${text}`, {
          temporary: true,
          cause: error,
        });
      }
      if (metadataFullPattern.test(text)) throw metadataFull(this.#volumeGroup, error);
      if (!/already exists/i.test(text)) throw error;
      const place = `${this.#volumeGroup}/${volumeId}`;
      throw volumeError("volume-foreign", `${place} already exists`, {
        temporary: false,
        cause: error,
      });
    }
  }

  async retag(listed: BlockVolume, tags: VolumeTags, signal: AbortSignal): Promise<void> {
    const wanted = formatTags(this.#hostId, checkTags(tags));
    const present = formatTags(this.#hostId, listed.tags);
    const args = [
      ...present.filter((tag) => !wanted.includes(tag)).flatMap((tag) => ["--deltag", tag]),
      ...wanted.filter((tag) => !present.includes(tag)).flatMap((tag) => ["--addtag", tag]),
    ];
    if (args.length === 0) return;
    await this.#lvm("lvchange", [...args, this.#pathOf(listed.volumeId)], signal);
  }

  async transfer({ volumeId }: BlockVolume, hostId: string, signal: AbortSignal): Promise<void> {
    const tags = ["--deltag", `berth.host=${this.#hostId}`, "--addtag", `berth.host=${hostId}`];
    await this.#lvm("lvchange", [...tags, this.#pathOf(volumeId)], signal);
  }

  async grow(volumeId: string, sizeBytes: number, signal: AbortSignal): Promise<void> {
    try {
      const size = formatSize(sizeBytes);
      await this.#lvm("lvextend", ["-L", size, this.#pathOf(volumeId)], signal);
    } catch (error) {
      // The volume already has that size or more.
      if (/matches existing size|not larger than existing/i.test(getMessage(error))) return;
      if (!/insufficient free space/i.test(getMessage(error))) throw error;
      throw volumeError("volume-no-room", getMessage(error), { temporary: true, cause: error });
    }
  }

  async shrink(volumeId: string, sizeBytes: number, signal: AbortSignal): Promise<void> {
    // Without --force: newer releases of LVM refuse to take blocks that a file system uses.
    await this.#lvm(
      "lvreduce",
      ["-y", "-L", formatSize(sizeBytes), this.#pathOf(volumeId)],
      signal,
    );
  }

  async attach(volumeId: string, signal: AbortSignal): Promise<string> {
    const device = this.#deviceOf(volumeId);
    // A new volume is active. Each LVM command scans the host's devices, so run none without need.
    if (!(await exists(device)))
      await this.#lvm("lvchange", ["-ay", this.#pathOf(volumeId)], signal);
    else if (await isSuspended(device))
      await this.#lvm("lvchange", ["--refresh", this.#pathOf(volumeId)], signal);
    return device;
  }

  async detach(volumeId: string, signal: AbortSignal): Promise<void> {
    const device = this.#deviceOf(volumeId);
    if (!(await exists(device))) return;
    try {
      await this.#lvm("lvchange", ["-an", this.#pathOf(volumeId)], signal);
    } catch (error) {
      if (!inUsePattern.test(getMessage(error))) throw error;
      throw await deviceBusy(volumeId, device, error);
    }
  }

  async remove(volumeId: string, signal: AbortSignal): Promise<void> {
    await this.detach(volumeId, signal);
    await this.#lvm("lvremove", ["-y", this.#pathOf(volumeId)], signal);
  }

  async capacity(signal: AbortSignal): Promise<BlockCapacity> {
    const options = ["-o", "vg_size,vg_free,vg_mda_size,vg_mda_free", ...reportOptions];
    const output = await this.#lvm("vgs", [...options, this.#volumeGroup], signal);
    const group = groups.parse(JSON.parse(output)).report[0]?.vg[0];
    if (!group) throw missing(this.#volumeGroup);
    const [totalBytes, freeBytes] = [Number(group.vg_size), Number(group.vg_free)];
    // The area holds the previous metadata, too, so a half of it is usable.
    const usableBytes = Number(group.vg_mda_size) / 2;
    const lackingBytes = usableBytes * metadataReserve - Number(group.vg_mda_free);
    const recordsLacking = Math.max(0, Math.ceil(lackingBytes / recordBytesMin));
    this.#isMetadataFull = recordsLacking > 0;
    const usedBytes = totalBytes - freeBytes;
    const isMetadataFull = this.#isMetadataFull;
    return { totalBytes, usedBytes, freeBytes, isMetadataFull, recordsLacking };
  }

  #pathOf(volumeId: string): string {
    return `${this.#volumeGroup}/${checkVolumeId(volumeId)}`;
  }

  /**
   * The device node, which exists while the volume is active. Device mapper joins the two names and
   * doubles the dashes within them (dmsetup(8)).
   */
  #deviceOf(volumeId: string): string {
    const parts = [this.#volumeGroup, checkVolumeId(volumeId)];
    return `/dev/mapper/${parts.map((part) => part.replaceAll("-", "--")).join("-")}`;
  }

  #tagArguments(option: string, tags: VolumeTags): string[] {
    return formatTags(this.#hostId, checkTags(tags)).flatMap((tag) => [option, tag]);
  }

  /**
   * Runs an LVM command to its end, or until SIGTERM at its deadline. An LVM command that is killed
   * may leave a device suspended, with all of its I/O blocked.
   */
  async #lvm(command: string, args: readonly string[], signal: AbortSignal): Promise<string> {
    signal.throwIfAborted();
    try {
      return await runCommand(`/usr/sbin/${command}`, args, {
        timeoutMs: lvmTimeoutMs,
        killSignal: "SIGTERM",
      });
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      if (/volume group .* not found|cannot process volume group/i.test(error.stderrTail))
        throw missing(this.#volumeGroup, error);
      throw volumeError("volume-failed", error.message, { temporary: true, cause: error });
    }
  }
}

const reportOptions = ["--reportformat", "json", "--units", "b", "--nosuffix"];

function metadataFull(volumeGroup: string, cause?: unknown): Error {
  return volumeError(
    "volume-no-room",
    `the metadata area of volume group ${volumeGroup} is almost full, so it accepts no new volumes. Purge trashed volumes. A larger area needs a new group (vgcreate --metadatasize 64m), which destroys all its volumes: drain the host first.`,
    { temporary: true, cause },
  );
}

/** LVM rounds sizes up to extents, but rejects a part of a sector. */
function formatSize(sizeBytes: number): string {
  return `${Math.ceil(checkSize(sizeBytes) / sectorBytes) * sectorBytes}b`;
}

function missing(volumeGroup: string, cause?: unknown): Error {
  return volumeError(
    "volume-missing",
    `volume group ${volumeGroup} not found on this host. Create it with vgcreate, or reconnect its disk.`,
    { temporary: true, cause },
  );
}

/**
 * True if a killed command left the device suspended, so that all I/O on it blocks. Does not touch
 * the device.
 */
async function isSuspended(device: string): Promise<boolean> {
  const { rdev } = await stat(device);
  const path = `/sys/dev/block/${deviceNumbers(rdev)}/dm/suspended`;
  // A container may hide sysfs.
  const text = await readFile(path, "utf8").catch(() => "0");
  return text.trim() === "1";
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

function getMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** LVM allows letters, digits and _+.-/=!:&# in a tag, at most 1,024 of them (lvm(8)). */
function formatTags(hostId: string, tags: VolumeTags): string[] {
  const { setId, tenant, service, generation, state, ...others } = tags;
  const members = {
    host: hostId,
    set: setId,
    tenant,
    service,
    generation,
    state,
    growing: others.growingFromBytes,
    trashed: others.trashedAtMs,
    expires: others.expiresAtMs,
    stamp: others.expiryStampMs,
  };
  return Object.entries(members).flatMap(([name, value]) =>
    value === undefined ? [] : `berth.${name}=${value}`,
  );
}

function readMembers(tags: readonly string[]): Map<string, string> {
  return new Map(
    tags.flatMap((tag) => {
      const [, name, value] = /^berth\.([a-z]+)=(.*)$/.exec(tag) ?? [];
      return name === undefined || value === undefined ? [] : [[name, value] as const];
    }),
  );
}

/** Undefined if tags are missing or malformed. */
function toTags(members: ReadonlyMap<string, string>): VolumeTags | undefined {
  const number = (name: string) => (members.has(name) ? Number(members.get(name)) : undefined);
  const state = members.get("state");
  if (state !== "new" && state !== "live" && state !== "trashed") return undefined;
  const [setId = "", tenant = "", service = ""] = ["set", "tenant", "service"].map((name) =>
    members.get(name),
  );
  const tags: VolumeTags = {
    setId,
    tenant,
    service,
    generation: number("generation") ?? -1,
    state,
  };
  const later = {
    growingFromBytes: number("growing"),
    trashedAtMs: number("trashed"),
    expiresAtMs: number("expires"),
    expiryStampMs: number("stamp"),
  };
  try {
    return checkTags({ ...tags, ...later });
  } catch {
    return undefined;
  }
}
