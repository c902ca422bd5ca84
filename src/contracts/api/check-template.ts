/** Checks the rules that involve several containers, and reports each violation with its path. */
export function checkContainers(
  containers: readonly {
    name: string;
    memoryPercent: number;
    serving?: "required" | "optional" | undefined;
  }[],
  addIssue: (path: (string | number)[], message: string) => void,
): void {
  const seen = new Set<string>();
  for (const [position, container] of containers.entries()) {
    if (container.name === "infra")
      addIssue(["containers", position, "name"], '"infra" is the name of the infra container');
    if (seen.has(container.name))
      addIssue(["containers", position, "name"], `the name "${container.name}" is used twice`);
    seen.add(container.name);
  }
  // Otherwise the set would be ready without any container that serves.
  if (containers.length > 0 && containers.every(({ serving }) => serving === "optional"))
    addIssue(["containers"], "expected at least one container without `serving: optional`");
  const memoryPercent = containers.reduce((sum, container) => sum + container.memoryPercent, 0);
  if (memoryPercent > 100) {
    addIssue(
      ["containers"],
      `the containers' memory adds up to ${memoryPercent}% of the set; expected at most 100%`,
    );
  }
}

/** Checks that a set has at most one interface in each network. */
export function checkNetworks(
  networks: readonly { network: string }[],
  addIssue: (path: (string | number)[], message: string) => void,
): void {
  const seen = new Set<string>();
  for (const [position, { network }] of networks.entries()) {
    if (seen.has(network))
      addIssue(["networks", position, "network"], `the network "${network}" is named twice`);
    seen.add(network);
  }
}

/** Checks that each path of a container is mounted once, and that /dev/shm fits into the memory. */
export function checkMounts(
  template: {
    memory: number;
    shm?: number | undefined;
    volume?: { mountPath: string } | undefined;
    containers: readonly { options: { tmpfs?: readonly { mountPath: string }[] | undefined } }[];
  },
  addIssue: (path: (string | number)[], message: string) => void,
): void {
  if (template.shm !== undefined && template.shm > template.memory)
    addIssue(["shm"], "expected at most the memory of the set");
  for (const [position, { options }] of template.containers.entries()) {
    const seen = new Set([template.volume?.mountPath]);
    for (const [index, { mountPath: path }] of (options.tmpfs ?? []).entries()) {
      if (seen.has(path))
        addIssue(
          ["containers", position, "options", "tmpfs", index, "mountPath"],
          `"${path}" is mounted twice: choose another path`,
        );
      seen.add(path);
    }
  }
}

/**
 * Linux before 5.13 applies these to the whole host, although they are in the namespace of a set.
 * It hides others that belong to the host.
 */
const hostSysctls: readonly string[] = [
  "net.netfilter.nf_conntrack_buckets",
  "net.netfilter.nf_conntrack_expect_max",
  "net.netfilter.nf_conntrack_max",
  "net.nf_conntrack_max",
];

/** Checks that no sysctl changes other sets of the host. */
export function checkSysctls(
  names: readonly string[],
  addIssue: (path: (string | number)[], message: string) => void,
): void {
  for (const name of names) {
    if (hostSysctls.includes(name))
      addIssue(["sysctls", name], `"${name}" applies to the whole host before Linux 5.13: omit it`);
  }
}

/** The length of the text in UTF-8. */
export function utf8Bytes(text: string): number {
  let bytes = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    // A surrogate pair takes four bytes, two for each half.
    const isSurrogate = code >= 0xd800 && code <= 0xdfff;
    bytes += code < 0x80 ? 1 : code < 0x800 || isSurrogate ? 2 : 3;
  }
  return bytes;
}
